import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** A program of the benchmark that prints one line of JSON when it is ready. */
export type Program = AsyncDisposable & {
  readonly ready: Readonly<Record<string, unknown>>;
  readonly pid: number;
};

/** Starts a TypeScript program, by its path from this folder, in a process of its own. */
export async function start(file: string, args: readonly string[]): Promise<Program> {
  const child = spawn(process.execPath, [join(import.meta.dirname, file), ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout });
  const [first] = (await Promise.race([once(lines, "line"), ended(child, file)])) as [string];
  return {
    ready: JSON.parse(first) as Record<string, unknown>, // the programs here print an object
    pid: child.pid ?? 0,
    [Symbol.asyncDispose]: async () => {
      const exit = once(child, "exit");
      child.kill("SIGTERM");
      await exit;
    },
  };
}

async function ended(child: ChildProcess, file: string): Promise<never> {
  const [code] = await once(child, "exit");
  throw new Error(`${file} ended with ${code} before it was ready`);
}
