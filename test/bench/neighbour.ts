import { setTimeout as sleep } from "node:timers/promises";
import { table } from "../../scripts/demo/table.ts";
import { hostile, pipelined, wrk } from "../load/attacks.ts";
import { askSteadily } from "../load/clients.ts";
import { credentialsPath, givenProxy, noisy, quiet } from "../load/fixture.ts";
import type { Kind } from "../load/hostile.ts";
import { requestText } from "../support/raw-http.ts";

/**
 * What one container sees of the proxy while another floods it: 20 requests a second, half of them on new connections, limits as shipped.
 * Each row takes two and a half times BENCH_SECONDS (default 4), since a p99 needs some hundred requests. The first row is the yardstick.
 */
const seconds = Number(process.env.BENCH_SECONDS ?? 4) * 2.5;
const missing = "/latest/meta-data/nothing/%zz";

type Attack = { readonly what: string; start(port: number, lines: readonly string[]): () => Promise<string> };

/** How long an attack goes on: it is there before the row begins and when it ends. */
const attackSeconds = Math.ceil(seconds + 2);

const flood = (connections: number, target: string, withToken = true): Attack["start"] => {
  return (port, lines) => {
    const flooding = wrk(port, connections, attackSeconds, target, withToken ? lines : []);
    return async () => `${Math.round(await flooding).toLocaleString("en")} requests/s`;
  };
};

const sixteenAtATime: Attack["start"] = (port, lines) => {
  const flooding = pipelined(port, 64, attackSeconds, requestText("GET", credentialsPath, lines).repeat(16));
  return () => flooding;
};

const byHostile = (kind: Kind, connections: number, addresses = 1): Attack => ({
  what: `${kind}, ${connections} connections${addresses > 1 ? ` from ${addresses} addresses of nobody` : ""}`,
  start: (port) => {
    const from = addresses > 1 ? "127.0.8.1" : noisy.address;
    const attacking = hostile({ kind, port, from, addresses, connections, seconds: attackSeconds });
    return () => attacking;
  },
});

const attacks: readonly Attack[] = [
  { what: "nothing", start: () => async () => "" },
  { what: "64 connections, warm credentials", start: flood(64, credentialsPath) },
  { what: "64 connections without a token", start: flood(64, credentialsPath, false) },
  { what: "512 connections, paths that do not exist", start: flood(512, missing) },
  { what: "16 requests at a time on 64 connections", start: sixteenAtATime },
  ...[64, 512].flatMap((connections) => [
    byHostile("bodies in chunks of one byte", connections),
    byHostile("plain bodies", connections),
    byHostile("trailers", connections),
    byHostile("headers", connections),
    byHostile("slow reading", connections),
    byHostile("connecting again and again", connections),
  ]),
  byHostile("half a request", 2_000),
  byHostile("nothing said", 4_000, 200),
  byHostile("bodies in chunks of one byte", 1_000, 200),
];

async function main(): Promise<void> {
  await using given = await givenProxy();
  const { port } = given;
  const lines = await given.tokenLines(quiet);
  const ask = (ms: number) => askSteadily({ port, from: quiet.address }, credentialsPath, lines, 20, ms);
  // A service that has run for a moment: its code is compiled, its credentials are there.
  await flood(512, credentialsPath)(port, await given.tokenLines(noisy))();
  await ask(1_000);
  const rows: string[][] = [];
  let alone = Number.NaN;
  // Before the attacks, since an address that has attacked waits for its turn.
  const noisyLines = await given.tokenLines(noisy);
  for (const { what, start } of attacks) {
    const stop = start(port, noisyLines);
    await sleep(1_000);
    const { asked, failed, p50, p99, worst } = await ask(seconds * 1_000);
    const note = await stop();
    if (rows.length === 0) alone = p99;
    const times = [p50, p99, worst].map((ms) => `${ms.toFixed(1)} ms`);
    rows.push([what, `${asked - failed.length} of ${asked}`, ...times, (p99 / alone).toFixed(1), note]);
    // An address that sent what nobody wants is not read from for a while.
    await sleep(11_000);
  }
  process.stdout.write(`\nOne container, 20 requests a second, while another sends\n\n`);
  process.stdout.write(`${table(["", "answered", "p50", "p99", "worst", "p99 ratio", ""], rows)}\n`);
}

await main();
