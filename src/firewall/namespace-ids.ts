import { mkdir, readdir, readlink, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { pid as ownPid } from "node:process";
import { mustRun, type Run } from "./command.ts";
import { parseListing } from "./ip-listing.ts";

const tasksTried = 16;

/**
 * Asks the kernel for the ids of network namespaces, as this host's links name them. `ip` finds a namespace
 * by a file in a folder, so each process gets a link there while it runs. Nothing walks through /proc, so the
 * time does not depend on how many processes the containers have.
 * @param folder where ip looks. In the guard's unit nothing else is in it.
 * @returns the ids by process. Missing are those of processes that have ended, and of the host's namespace.
 * @throws OperatorError 69 if ip fails
 */
export async function readNamespaceIds(
  { run, procRoot, folder }: { readonly run: Run; readonly procRoot: string; readonly folder: string },
  pids: Iterable<number>,
): Promise<ReadonlyMap<number, number>> {
  // Also by the reader's own process: without the unit, another guard may use the same folder.
  const links = new Map([...new Set(pids)].map((pid) => [`ec2metaproxy-${ownPid}-${pid}`, pid]));
  if (links.size === 0) return new Map();
  await mkdir(folder, { recursive: true });
  try {
    await Promise.all(
      [...links].map(async ([name, pid]) => {
        await rm(join(folder, name), { force: true });
        await symlink(await namespaceFile(procRoot, pid), join(folder, name));
      }),
    );
    const listing = await mustRun(run, "reading the network namespaces", "ip", ["-j", "netns", "list"]);
    return new Map(
      parseListing(listing).flatMap(({ name, id }) => {
        const pid = typeof name === "string" ? links.get(name) : undefined;
        return pid === undefined || typeof id !== "number" ? [] : [[pid, id] as const];
      }),
    );
  } finally {
    await Promise.all([...links.keys()].map((name) => rm(join(folder, name), { force: true })));
  }
}

/** A process whose first thread has ended has its network namespace only in the others. */
async function namespaceFile(procRoot: string, pid: number): Promise<string> {
  const own = join(procRoot, `${pid}/ns/net`);
  const isThere = async (file: string) => (await readlink(file).catch(() => "")) !== "";
  if (await isThere(own)) return own;
  const tasks = (await readdir(join(procRoot, `${pid}/task`)).catch(() => [])).slice(0, tasksTried);
  const files = tasks.map((task) => join(procRoot, `${pid}/task/${task}/ns/net`));
  const found = await Promise.all(files.map(isThere));
  return files[found.indexOf(true)] ?? own;
}
