import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { table } from "../../scripts/demo/table.ts";

/**
 * Time from the start of the executable to its "ready" line, as a ratio to `node -e 0`, in alternation.
 * Without an engine and AWS: systemd's sandbox and an engine's first list add to it;
 * test/host/appliance.test.ts reports that time.
 */
const rounds = 15;
const executable = join(import.meta.dirname, "../../dist/ec2metaproxy");

/** Milliseconds until the program prints `until`, or ends. */
async function timed(file: string, args: readonly string[], until: string): Promise<number> {
  const started = performance.now();
  const child = spawn(file, args, { stdio: ["ignore", "pipe", "ignore"], env: {} });
  const ended = once(child, "exit");
  for await (const line of createInterface({ input: child.stdout })) if (line.includes(until)) break;
  if (until === "") await ended;
  const ms = performance.now() - started;
  child.kill("SIGTERM");
  await ended;
  return ms;
}

const folder = await mkdtemp(join(tmpdir(), "bench-start-"));
const config = join(folder, "config.json");
await writeFile(
  config,
  JSON.stringify({
    listen: "127.0.0.1:18990",
    metadataEndpoint: "http://127.0.0.1:9",
    dockerHost: join(folder, "docker.sock"),
  }),
);
const bare: number[] = [];
const version: number[] = [];
const ready: number[] = [];
for (let round = 0; round < rounds; round += 1) {
  bare.push(await timed(process.execPath, ["-e", "0"], ""));
  version.push(await timed(executable, ["--version"], ""));
  ready.push(await timed(executable, ["serve", "-c", config], "ready: "));
}
await rm(folder, { recursive: true });

const median = (times: readonly number[]) => times.toSorted((a, b) => a - b)[Math.floor(rounds / 2)] ?? 0;
const row = (what: string, times: readonly number[]) => [
  what,
  `${Math.min(...times).toFixed(0)} ms`,
  `${median(times).toFixed(0)} ms`,
  (median(times) / median(bare)).toFixed(2),
];
process.stdout.write(`\nStart of the executable, ${rounds} rounds\n\n`);
process.stdout.write(
  `${table(["", "least", "median", "ratio"], [row("node -e 0", bare), row("--version", version), row("serve, until it is ready", ready)])}\n`,
);
