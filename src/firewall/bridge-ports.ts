/**
 * Which interfaces of the host lead into which network namespace. Both answers come from the kernel, and a
 * container cannot change either. The index of the other end would not do: Podman's netavark gives every container
 * the same one.
 */

/** What a bridge port's other end is in, by the id that the host's network namespace gives to that one. */
export type PortsByNamespaceId = ReadonlyMap<number, readonly number[]>;

/** @param listing of `ip -j -d link show type veth` */
export function parsePorts(listing: string): PortsByNamespaceId {
  const ports = new Map<number, number[]>();
  const links: unknown = listing.trim() === "" ? [] : JSON.parse(listing);
  if (!Array.isArray(links)) throw new Error("reading the host's links: ip printed no list");
  for (const link of links as readonly unknown[]) {
    if (typeof link !== "object" || link === null || !("link_netnsid" in link) || !("ifindex" in link))
      continue;
    const { link_netnsid: id, ifindex } = link;
    if (typeof id !== "number" || typeof ifindex !== "number") continue;
    ports.set(id, [...(ports.get(id) ?? []), ifindex]);
  }
  return ports;
}

/**
 * @param listing of `lsns -t net -n -o NS,NETNSID`
 * @returns ids by the namespace's inode number; without the host's own, which has none
 */
export function parseNamespaceIds(listing: string): ReadonlyMap<string, number> {
  const ids = new Map<string, number>();
  for (const line of listing.split("\n")) {
    const [inode, id] = line.trim().split(/\s+/);
    if (inode !== undefined && id !== undefined && /^\d+$/.test(id)) ids.set(inode, Number(id));
  }
  return ids;
}
