import { type Listed, linkInfo, parseListing } from "./ip-listing.ts";

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
  const links = parseListing(listing);
  const names = new Map(links.flatMap(numericNames));
  return links.flatMap((link): readonly Port[] => {
    const { ifindex: index, master: bridge, link_netnsid: namespaceId } = link;
    if (typeof index !== "number" || linkInfo(link).kind !== "veth") return [];
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

/** The names of a link that nft could take for an index, with the link's own index. */
function numericNames({ ifname, altnames, ifindex }: Listed): readonly (readonly [string, unknown])[] {
  return [ifname, ...(Array.isArray(altnames) ? (altnames as readonly unknown[]) : [])]
    .filter((name) => typeof name === "string")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => [name, ifindex]);
}
