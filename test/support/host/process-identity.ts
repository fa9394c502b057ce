import { readFileSync } from "node:fs";

/** A process, with its start time: the pid alone may have been reused. */
export type ProcessIdentity = { readonly pid: number; readonly startTime: string };

/** `undefined` if there is no such process. Synchronous, because it is called while this process exits. */
export function identify(pid: number): ProcessIdentity | undefined {
  try {
    // proc_pid_stat(5), field 22. Counted from the command name, which may contain spaces and parentheses.
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

/** Sends the signal, unless the process has ended. */
export function signal(to: ProcessIdentity, name: NodeJS.Signals): void {
  if (!isAlive(to)) return;
  try {
    process.kill(to.pid, name);
  } catch {
    // It has just ended.
  }
}
