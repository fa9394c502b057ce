import { readFileSync } from "node:fs";

/** A process, with its start time, so that a pid that was given to another process since is not taken for it. */
export type ProcessIdentity = { readonly pid: number; readonly startTime: string };

/** `undefined` when there is no such process. Synchronous: it is asked while the process exits. */
export function identify(pid: number): ProcessIdentity | undefined {
  try {
    // proc_pid_stat(5): field 22, counted after the command name, which may hold spaces and parentheses.
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const [state] = fields;
    const startTime = fields[19];
    if (startTime === undefined || state === "Z") return undefined;
    return { pid, startTime };
  } catch {
    return undefined;
  }
}

export function isAlive(process: ProcessIdentity): boolean {
  return identify(process.pid)?.startTime === process.startTime;
}

/** Sends the signal to that very process, or to nobody. */
export function signal(to: ProcessIdentity, name: NodeJS.Signals): void {
  if (!isAlive(to)) return;
  try {
    process.kill(to.pid, name);
  } catch {
    // It ended in between.
  }
}
