import { type FileHandle, open, readFile } from "node:fs/promises";

/**
 * Field 22 of /proc/<pid>/stat: when the process started, in clock ticks since boot. Any user may read it,
 * unless the service has ProtectProc=invisible. Undefined if there is no such process.
 */
export async function processStartedAt(procRoot: string, pid: number): Promise<number | undefined> {
  let stat: string;
  try {
    stat = await readFile(`${procRoot}/${pid}/stat`, "latin1");
  } catch {
    return undefined;
  }
  // The second field is the command in brackets, with any spaces and brackets in it: count after it.
  const afterName = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [state] = afterName;
  if (state === "X" || state === "x") return undefined;
  // A zombie has no network namespace any more, so it has no sockets. Unless only its first thread has ended.
  if (state === "Z" && Number(afterName[17]) <= 1) return undefined;
  const startedAt = Number(afterName[19]);
  return Number.isSafeInteger(startedAt) && startedAt > 0 ? startedAt : undefined;
}

/**
 * Whether a process is in a cgroup that is named after a container, as Docker and Podman name them. A process
 * of another host's container is not, even if a process here has its pid.
 */
export async function isInCgroupOf(procRoot: string, pid: number, containerId: string): Promise<boolean> {
  const cgroups = await readFile(`${procRoot}/${pid}/cgroup`, "latin1").catch(() => "");
  // The outermost one: a container may be allowed to make cgroups with any name below its own.
  const ids = cgroups.split("\n").flatMap((line) => containerNamed(line) ?? []);
  return ids.length > 0 && ids.every((id) => id === containerId);
}

/** The container in the path of a line of /proc/<pid>/cgroup. Empty for a name that only looks like one. */
function containerNamed(line: string): string | undefined {
  const component = line.split("/").find((one) => /[0-9a-f]{64}/.test(one));
  if (component === undefined) return undefined;
  return /^(?:(?:docker|libpod)-)?([0-9a-f]{64})(?:\.scope)?$/.exec(component)?.[1] ?? "";
}

/** Opens a file in /proc/<pid>/net. The handle keeps the network namespace that the process has now. */
export function openSocketTable(procRoot: string, pid: number, file: "tcp" | "tcp6"): Promise<FileHandle> {
  return open(`${procRoot}/${pid}/net/${file}`, "r");
}
