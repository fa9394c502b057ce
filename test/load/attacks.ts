import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { noisy } from "./fixture.ts";
import type { Kind } from "./hostile.ts";

const run = promisify(execFile);

/** Runs wrk from the noisy container's address. Returns answers per second, of any status. */
export async function wrk(
  port: number,
  connections: number,
  seconds: number,
  target: string,
  lines: readonly string[],
): Promise<number> {
  const { stdout } = await run(
    "wrk",
    [
      "-t1",
      `-c${connections}`,
      `-d${seconds}s`,
      ...lines.flatMap((line) => ["-H", line]),
      `http://127.0.0.1:${port}${target}`,
    ],
    { timeout: (seconds + 10) * 1_000 },
  );
  return Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1]);
}

/** Runs pipeline.ts, in a process of its own so that its work is not measured too. Returns its report. */
export async function pipelined(
  port: number,
  connections: number,
  seconds: number,
  text: string,
): Promise<string> {
  const program = new URL("pipeline.ts", import.meta.url).pathname;
  const args = [program, String(port), noisy.address, String(connections), String(seconds), text];
  const { stdout } = await run(process.execPath, args, { timeout: (seconds + 20) * 1_000 });
  return stdout.trim();
}

/** Runs hostile.ts in a process of its own. Returns its report. */
export async function hostile(attack: {
  readonly kind: Kind;
  readonly port: number;
  readonly from: string;
  readonly addresses: number;
  readonly connections: number;
  readonly seconds: number;
}): Promise<string> {
  const program = new URL("hostile.ts", import.meta.url).pathname;
  const args = Object.entries(attack).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const { stdout } = await run(process.execPath, [program, ...args], {
    timeout: (attack.seconds + 20) * 1_000,
  });
  return stdout.trim();
}
