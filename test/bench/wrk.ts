import { execFile } from "node:child_process";
import { promisify } from "node:util";

/** Results of wrk. Latencies in milliseconds. */
export type Load = {
  readonly requestsPerSecond: number;
  readonly p50: number;
  readonly p99: number;
  readonly errors: number;
};

const run = promisify(execFile);

/**
 * Load on keep-alive connections from one wrk thread. Rejects if an answer was not 2xx: refusals are fast and
 * would spoil the figure.
 */
export async function wrk(
  url: string,
  connections: number,
  seconds: number,
  headers: Readonly<Record<string, string>> = {},
): Promise<Load> {
  const flags = Object.entries(headers).flatMap(([name, value]) => ["-H", `${name}: ${value}`]);
  const { stdout } = await run(
    "wrk",
    ["-t1", `-c${connections}`, `-d${seconds}s`, "--latency", ...flags, url],
    { timeout: (seconds + 20) * 1000 },
  );
  const refused = /Non-2xx or 3xx responses: (\d+)/.exec(stdout);
  if (refused !== null) throw new Error(`${url}: ${refused[1]} answers were not 2xx`);
  const broken = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(stdout);
  const errors = broken === null ? 0 : broken.slice(1).reduce((sum, count) => sum + Number(count), 0);
  return {
    requestsPerSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1]),
    p50: milliseconds(stdout, "50%"),
    p99: milliseconds(stdout, "99%"),
    errors,
  };
}

function milliseconds(output: string, percentile: string): number {
  const match = new RegExp(`${percentile}\\s+([\\d.]+)(us|ms|s)\\b`).exec(output);
  const factor = { us: 0.001, ms: 1, s: 1000 }[match?.[2] ?? "ms"] ?? Number.NaN;
  return Number(match?.[1]) * factor;
}
