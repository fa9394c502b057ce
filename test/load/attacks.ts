import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { noisy } from "./fixture.ts";
import type { Kind } from "./hostile.ts";

const run = promisify(execFile);

/** Requests a second that wrk got answered, whatever the answers, from the noisy container's address. */
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

/** What pipeline.ts had answered, as a process of its own: else its work would be measured too. */
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

/** What hostile.ts says came of it, as a process of its own. */
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
