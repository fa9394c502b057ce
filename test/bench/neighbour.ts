import { setTimeout as sleep } from "node:timers/promises";
import { table } from "../../scripts/demo/table.ts";
import { hostile, pipelined, wrk } from "../load/attacks.ts";
import { requestSteadily } from "../load/clients.ts";
import { credentialsPath, noisy, quiet, startProxyUnderLoad } from "../load/fixture.ts";
import type { Kind } from "../load/hostile.ts";
import { requestText } from "../support/raw-http.ts";

/**
 * The latency of the proxy for one container while another floods it: 20 requests a second, half of them on
 * new connections, default limits. Each row takes two and a half times BENCH_SECONDS (default 4), because a
 * p99 needs some hundred requests. The first row is the baseline.
 */
const seconds = Number(process.env.BENCH_SECONDS ?? 4) * 2.5;
const missing = "/latest/meta-data/nothing/%zz";

type Attack = { readonly what: string; start(port: number, lines: readonly string[]): () => Promise<string> };

/** Longer than a row, so that the attack covers all of it. */
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
  what: `${kind}, ${connections} connections${addresses > 1 ? ` from ${addresses} unknown addresses` : ""}`,
  start: (port) => {
    const from = addresses > 1 ? "127.0.8.1" : noisy.address;
    const attacking = hostile({ kind, port, from, addresses, connections, seconds: attackSeconds });
    return () => attacking;
  },
});

const attacks: readonly Attack[] = [
  { what: "no attack", start: () => async () => "" },
  { what: "64 connections, warm credentials", start: flood(64, credentialsPath) },
  { what: "64 connections without a token", start: flood(64, credentialsPath, false) },
  { what: "512 connections, missing paths", start: flood(512, missing) },
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
  await using setup = await startProxyUnderLoad();
  const { port } = setup;
  const lines = await setup.tokenLines(quiet);
  const measure = (ms: number) =>
    requestSteadily({ port, from: quiet.address }, credentialsPath, lines, 20, ms);
  // Warm-up: the code is compiled and the credentials are cached.
  await flood(512, credentialsPath)(port, await setup.tokenLines(noisy))();
  await measure(1_000);
  const rows: string[][] = [];
  let alone = Number.NaN;
  // Before the attacks, because an address that has attacked has to wait.
  const noisyLines = await setup.tokenLines(noisy);
  for (const { what, start } of attacks) {
    const stop = start(port, noisyLines);
    await sleep(1_000);
    const { requests, failed, p50, p99, worst } = await measure(seconds * 1_000);
    const note = await stop();
    if (rows.length === 0) alone = p99;
    const times = [p50, p99, worst].map((ms) => `${ms.toFixed(1)} ms`);
    rows.push([what, `${requests - failed.length} of ${requests}`, ...times, (p99 / alone).toFixed(1), note]);
    // The proxy does not read for a while from an address that sent bad requests.
    await sleep(11_000);
  }
  process.stdout.write(`\nOne container, 20 requests a second, while another sends\n\n`);
  process.stdout.write(`${table(["", "answered", "p50", "p99", "worst", "p99 ratio", ""], rows)}\n`);
}

await main();
