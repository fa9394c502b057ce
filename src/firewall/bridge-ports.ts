/**
 * Which interfaces of the host lead into which network namespace. Both answers come from the kernel, and a
 * container can change neither. The index of the port's other end would not identify it: Podman's netavark
 * gives every container the same one.
 */

/** A veth of the host. */
export type Port = {
  readonly index: number;
  /** The name of the bridge that it is a port of. */
  readonly bridge: string | undefined;
  /** The id of the network namespace at its other end. Undefined if that is the host's own. */
  readonly namespaceId: number | undefined;
};

/**
 * @param listing of `ip -j -d link show type veth`
 * @throws if it is not a JSON list
 */
export function parsePorts(listing: string): readonly Port[] {
  const links: unknown = listing.trim() === "" ? [] : JSON.parse(listing);
  if (!Array.isArray(links)) throw new Error("reading the host's links: ip printed no list");
  return (links as readonly unknown[]).flatMap((link): readonly Port[] => {
    if (typeof link !== "object" || link === null || !("ifindex" in link)) return [];
    const { ifindex: index } = link;
    if (typeof index !== "number") return [];
    const namespaceId = "link_netnsid" in link ? link.link_netnsid : undefined;
    const bridge = "master" in link ? link.master : undefined;
    return [
      {
        index,
        bridge: typeof bridge === "string" ? bridge : undefined,
        namespaceId: typeof namespaceId === "number" ? namespaceId : undefined,
      },
    ];
  });
}

/**
 * @param listing of `lsns -t net -n -o NS,NETNSID`
 * @returns the ids by the namespace's inode number. The host's own namespace has none.
 */
export function parseNamespaceIds(listing: string): ReadonlyMap<string, number> {
  const ids = new Map<string, number>();
  for (const line of listing.split("\n")) {
    const [, inode, id] = /^\s*(\d+)\s+(\d+)\s*$/.exec(line) ?? [];
    if (inode !== undefined) ids.set(inode, Number(id));
  }
  return ids;
}
