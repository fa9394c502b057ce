import { readlink } from "node:fs/promises";
import { processStartedAt } from "../containers/proc.ts";
import { type Port, parseNamespaceIds, parsePorts } from "./bridge-ports.ts";
import { mustRun, type Run, whyNot } from "./command.ts";

/** A container with a process on this host, and where it is in the host's network. */
export type Located = {
  readonly target: { readonly pid: number; readonly pidStartedAt: number | undefined };
  /** The veths that lead into it. Undefined until they were looked for. */
  ports: readonly Port[] | undefined;
  /** The id of its network namespace, once known. It stays the same while the process lives. */
  namespaceId: number | undefined;
};

/**
 * lsns reads all of /proc. Its time grows with the square of the number of processes, and it fails when a
 * process ends while it reads: one container can cause both. So nobody may depend on its answer but a
 * container whose namespace is not known yet.
 */
const lsnsLimitMs = 2_000;
const lsnsAttempts = 4;

/**
 * Finds the ports of containers.
 * @param namespaces the ids of all containers' network namespaces
 * @returns why the ports of containers whose namespace is not known yet could not be looked for
 * @throws OperatorError 69 if the host's links cannot be read
 */
export async function findPorts(
  { run, procRoot }: { readonly run: Run; readonly procRoot: string },
  containers: readonly Located[],
  namespaces: readonly (number | undefined)[],
): Promise<string | undefined> {
  const unknown = containers.filter(({ namespaceId }) => namespaceId === undefined);
  const [links, ids] = await Promise.all([
    mustRun(run, "reading the bridges' ports", "ip", ["-j", "-d", "link", "show"]),
    unknown.length === 0 ? new Map<string, number>() : readNamespaceIds(run),
  ]);
  const failed = typeof ids === "string" ? ids : undefined;
  await Promise.all(
    unknown.map(async (container) => {
      const inode = await namespaceOf(procRoot, container.target);
      container.namespaceId = inode === undefined || typeof ids === "string" ? undefined : ids.get(inode);
    }),
  );
  const ports = parsePorts(links);
  const owned = new Set([...namespaces, ...containers.map(({ namespaceId }) => namespaceId)]);
  for (const container of containers) {
    if (failed !== undefined && container.namespaceId === undefined) continue;
    const { namespaceId, ports: former = [], target } = container;
    const leadingIn = ports.filter(
      (port) => port.namespaceId !== undefined && port.namespaceId === namespaceId,
    );
    const isNew = (port: Port) => !former.some(({ index }) => index === port.index);
    // The id of a namespace that is gone is given to another one, while the engine may not yet have reported
    // the container's end.
    const isStale = leadingIn.some(isNew) && !(await isAlive(procRoot, target));
    const found = isStale ? leadingIn.filter((port) => !isNew(port)) : leadingIn;
    // A port that once led into the container stays its own while it exists, unless it leads into another
    // container now. Otherwise a container with NET_ADMIN could shed the lock by moving its interface into a
    // namespace of its own making.
    const kept = ports.filter(
      (port) =>
        former.some(({ index }) => index === port.index) &&
        (port.namespaceId === undefined || !owned.has(port.namespaceId)),
    );
    container.ports = [...found, ...kept];
  }
  return failed;
}

/** The ids by inode number, or why they cannot be read. */
async function readNamespaceIds(run: Run): Promise<ReadonlyMap<string, number> | string> {
  for (let attempt = 1; ; attempt++) {
    const outcome = await run("lsns", ["-t", "net", "-n", "-o", "NS,NETNSID"], "", lsnsLimitMs);
    if (outcome.kind === "ran" && outcome.exitCode === 0) return parseNamespaceIds(outcome.stdout);
    // Another attempt would take as long as one that was killed, and the other containers wait for it.
    const mayFollow = outcome.kind === "ran" && outcome.exitCode === 1 && attempt < lsnsAttempts;
    if (!mayFollow) return `reading the network namespaces: ${whyNot("lsns", outcome)}`;
  }
}

/** The inode number of a process's network namespace. Undefined if the process has ended. */
async function namespaceOf(procRoot: string, { pid, pidStartedAt }: Located["target"]) {
  const link = await readlink(`${procRoot}/${pid}/ns/net`).catch(() => "");
  // After the link, so that the link is not that of a process with a reused pid.
  return (await isAlive(procRoot, { pid, pidStartedAt })) ? /^net:\[(\d+)\]$/.exec(link)?.[1] : undefined;
}

async function isAlive(procRoot: string, { pid, pidStartedAt }: Located["target"]): Promise<boolean> {
  return pidStartedAt !== undefined && (await processStartedAt(procRoot, pid)) === pidStartedAt;
}
