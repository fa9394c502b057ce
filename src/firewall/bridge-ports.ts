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
  /**
   * Whether another link has this port's index as its name. nft would take the index for that link: it knows
   * no way to write an index that is not first looked for among the names.
   */
  readonly isAmbiguous: boolean;
};

/**
 * @param listing of `ip -j -d link show`
 * @returns its veths
 * @throws if it is not a JSON list
 */
export function parsePorts(listing: string): readonly Port[] {
  // ip does not escape control characters, and a container with NET_ADMIN may name a link of the host.
  const text = listing.replaceAll(/\p{Cc}/gu, " ");
  const links: unknown = text.trim() === "" ? [] : JSON.parse(text);
  if (!Array.isArray(links)) throw new Error("reading the host's links: ip printed no list");
  const names = new Map((links as readonly unknown[]).flatMap(numericNames));
  return (links as readonly unknown[]).flatMap((link): readonly Port[] => {
    if (typeof link !== "object" || link === null || !("ifindex" in link) || !isVeth(link)) return [];
    const { ifindex: index } = link;
    if (typeof index !== "number") return [];
    const namespaceId = "link_netnsid" in link ? link.link_netnsid : undefined;
    const bridge = "master" in link ? link.master : undefined;
    return [
      {
        index,
        bridge: typeof bridge === "string" ? bridge : undefined,
        namespaceId: typeof namespaceId === "number" ? namespaceId : undefined,
        isAmbiguous: (names.get(String(index)) ?? index) !== index,
      },
    ];
  });
}

function isVeth(link: object): boolean {
  const info = "linkinfo" in link ? link.linkinfo : undefined;
  return typeof info === "object" && info !== null && "info_kind" in info && info.info_kind === "veth";
}

/** The names of a link that nft could take for an index, with the link's own index. */
function numericNames(link: unknown): readonly (readonly [name: string, index: unknown])[] {
  if (typeof link !== "object" || link === null || !("ifname" in link)) return [];
  const others: unknown = "altnames" in link ? link.altnames : [];
  return [link.ifname, ...(Array.isArray(others) ? (others as readonly unknown[]) : [])]
    .filter((name) => typeof name === "string")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => [name, "ifindex" in link ? link.ifindex : undefined]);
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
