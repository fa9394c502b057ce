import { setTimeout as sleep } from "node:timers/promises";
import { table } from "../../scripts/demo/table.ts";
import { pipelined, wrk } from "../load/attacks.ts";
import { askSteadily } from "../load/clients.ts";
import { credentialsPath, givenProxy, noisy, quiet } from "../load/given.ts";
import { requestText, wire } from "../support/raw-http.ts";

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

const halfRequests: Attack["start"] = (port) => {
  const idle = Array.from({ length: 2_000 }, () => wire(port, noisy.address));
  for (const one of idle) one.write("GET /latest/meta-data/ HTTP/1.1\r\nHost: 169.254");
  const trickle = setInterval(() => {
    for (const one of idle) if (one.socket.writable) one.write("x");
  }, 1_000);
  return async () => {
    clearInterval(trickle);
    const open = idle.filter(({ socket }) => !socket.destroyed && !socket.readableEnded).length;
    for (const { socket } of idle) socket.destroy();
    return `${open} of 2,000 still open`;
  };
};

const attacks: readonly Attack[] = [
  { what: "nothing", start: () => async () => "" },
  { what: "64 connections, warm credentials", start: flood(64, credentialsPath) },
  { what: "64 connections without a token", start: flood(64, credentialsPath, false) },
  { what: "512 connections, paths that do not exist", start: flood(512, missing) },
  { what: "16 requests at a time on 64 connections", start: sixteenAtATime },
  { what: "2,000 half-requests", start: halfRequests },
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
  for (const { what, start } of attacks) {
    const stop = start(port, await given.tokenLines(noisy));
    await sleep(1_000);
    const { asked, failed, p50, p99, worst } = await ask(seconds * 1_000);
    const note = await stop();
    if (rows.length === 0) alone = p99;
    const times = [p50, p99, worst].map((ms) => `${ms.toFixed(1)} ms`);
    rows.push([what, `${asked - failed.length} of ${asked}`, ...times, (p99 / alone).toFixed(1), note]);
    // An address that pipelined is not read from for a while.
    if (start === sixteenAtATime) await sleep(11_000);
  }
  process.stdout.write(`\nOne container, 20 requests a second, while another sends\n\n`);
  process.stdout.write(`${table(["", "answered", "p50", "p99", "worst", "p99 ratio", ""], rows)}\n`);
}

await main();
