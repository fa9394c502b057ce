import { processStartedAt } from "../containers/proc.ts";
import { type Port, parsePorts } from "./bridge-ports.ts";
import { mustRun, type Run } from "./command.ts";
import { readNamespaceIds } from "./namespace-ids.ts";

export type Surroundings = {
  readonly run: Run;
  readonly procRoot: string;
  /** Where `ip netns` looks for namespaces. */
  readonly namespacesFolder: string;
};

/** A container with a process on this host, and where it is in the host's network. */
export type Located = {
  readonly target: { readonly pid: number; readonly pidStartedAt: number | undefined };
  /** The veths that lead into it. Undefined until they were looked for. */
  ports: readonly Port[] | undefined;
  /** The id of its network namespace, once known. It stays the same while the process lives. */
  namespaceId: number | undefined;
};

/**
 * Finds the ports of containers. Returns all ports of the host.
 * @param namespaces the ids of all containers' network namespaces
 * @throws OperatorError 69 if the host's links or namespaces cannot be read
 */
export async function findPorts(
  { run, procRoot, namespacesFolder }: Surroundings,
  containers: readonly Located[],
  namespaces: readonly (number | undefined)[],
): Promise<readonly Port[]> {
  const links = await mustRun(run, "reading the bridges' ports", "ip", ["-j", "-d", "link", "show"]);
  // After the links: to list them gives an id to a namespace that has none yet.
  const unknown = containers.filter(({ namespaceId }) => namespaceId === undefined);
  const pids = unknown.map(({ target }) => target.pid);
  const ids = await readNamespaceIds({ run, procRoot, folder: namespacesFolder }, pids);
  await Promise.all(
    unknown.map(async (container) => {
      const id = ids.get(container.target.pid);
      // After the id, so that it is not that of a process with a reused pid.
      if (await isAlive(procRoot, container.target)) container.namespaceId = id;
    }),
  );
  const ports = parsePorts(links);
  const owned = new Set([...namespaces, ...containers.map(({ namespaceId }) => namespaceId)]);
  for (const container of containers) {
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
  return ports;
}

async function isAlive(procRoot: string, { pid, pidStartedAt }: Located["target"]): Promise<boolean> {
  return pidStartedAt !== undefined && (await processStartedAt(procRoot, pid)) === pidStartedAt;
}
