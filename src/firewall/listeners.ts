import { readFile, readlink } from "node:fs/promises";
import { resolve } from "node:path";
import type { Run } from "./command.ts";

/** A process that has a listening socket. */
export type Listener = { readonly name: string; readonly pid: number };

export type Listeners = {
  readonly kind: "nobody" | "somebody" | "unknown";
  /** Only root sees those of others. */
  readonly processes: readonly Listener[];
};

/** Who listens on a TCP port of the host. */
export async function listenersOf(run: Run, port: number): Promise<Listeners> {
  const outcome = await run("ss", ["-H", "-t", "-l", "-n", "-p", "sport", "=", `:${port}`]);
  if (outcome.kind === "missing" || outcome.exitCode !== 0) return { kind: "unknown", processes: [] };
  const found = [...outcome.stdout.matchAll(/\("((?:[^"\\]|\\.)*)",pid=(\d+),/g)];
  return {
    kind: outcome.stdout.trim() === "" ? "nobody" : "somebody",
    processes: found.map(([, name = "", pid]) => ({ name, pid: Number(pid) })),
  };
}

/** Those that are neither the proxy nor systemd, which holds the socket for it. */
export async function notTheProxy(
  isProxy: (pid: number) => Promise<boolean>,
  listeners: readonly Listener[],
): Promise<readonly Listener[]> {
  const found: Listener[] = [];
  for (const one of listeners) if (one.pid !== 1 && !(await isProxy(one.pid))) found.push(one);
  return found;
}

/**
 * Whether a process runs the proxy: the packages' executable, also one that an upgrade has replaced, or the
 * program that runs this.
 * @param program the file that this process was started with
 */
export async function runsProxy(program: string, pid: number): Promise<boolean> {
  const executable = await readlink(`/proc/${pid}/exe`).catch(() => "");
  if (/\/ec2metaproxy(?: \(deleted\))?$/.test(executable)) return true;
  const line = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
  const folder = await readlink(`/proc/${pid}/cwd`).catch(() => "/");
  return line.split("\0").some((argument) => argument !== "" && resolve(folder, argument) === program);
}
