import { writeFileSync } from "node:fs";

/** By this name `pgrep -x` and `top` know a process: at most 15 characters (/proc/pid/comm, proc(5)). */
export const processName = "ec2metaproxy";

/**
 * Names this process, which is `node-MainThread` otherwise. Not with process.title: that overwrites the
 * arguments too, and `ps` and `systemctl status` could no longer tell the guard from the proxy.
 */
export function nameProcess(comm = "/proc/self/comm"): void {
  try {
    writeFileSync(comm, processName);
  } catch {
    // No Linux, or a sandbox without /proc: the name is a convenience.
  }
}
