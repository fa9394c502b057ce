import { readdir, readFile } from "node:fs/promises";

/**
 * Resident memory of the process that was started with this argument. Rejects if there is none, because it
 * has died.
 */
export async function residentMegabytes(argument: string): Promise<number> {
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    const arguments_ = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (!arguments_.split("\0").includes(argument)) continue;
    const status = await readFile(`/proc/${pid}/status`, "utf8");
    return Math.round(Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024);
  }
  throw new Error(`no process has the argument ${argument}`);
}
