import { mustRun, type Run } from "./command.ts";
import { parseListing } from "./ip-listing.ts";
import { type FormerElement, lockKinds, lockTable } from "./lock-table.ts";

/**
 * What the table of a former guard binds to which port. Empty if there is no table, or it cannot be read.
 * Never rejects.
 */
export async function readFormerLock(run: Run): Promise<readonly FormerElement[]> {
  try {
    const outcome = await run("nft", ["-j", "list", "table", ...lockTable.split(" ")]);
    if (outcome.kind !== "ran" || outcome.exitCode !== 0) return [];
    const links = await mustRun(run, "reading the host's links", "ip", ["-j", "link", "show"]);
    return parseFormerLock(outcome.stdout, links);
  } catch {
    return [];
  }
}

/**
 * @param listing of `nft -j list table`
 * @param links of `ip -j link show`: nft prints names of ports
 * @throws if one of them is not JSON
 */
export function parseFormerLock(listing: string, links: string): readonly FormerElement[] {
  const indexes = new Map(parseListing(links).map(({ ifname, ifindex }) => [ifname, ifindex]));
  const { nftables } = JSON.parse(listing) as { readonly nftables: readonly Listed[] }; // nft's own form
  return lockKinds.flatMap((kind) => {
    const { elem = [] } = nftables.find(({ set }) => set?.name === `port_${kind}`)?.set ?? {};
    return elem.flatMap((element): readonly FormerElement[] => {
      const [port, value] = element.concat ?? [];
      // A port that is gone is a number, which another link may have as its name.
      const index = port === undefined || /^\d+$/.test(port) ? undefined : indexes.get(port);
      if (typeof index !== "number" || value === undefined) return [];
      return [{ port: index, kind, value: inSet(kind, value) }];
    });
  });
}

type Listed = {
  readonly set?: {
    readonly name: string;
    readonly elem?: readonly { readonly concat?: readonly [port: string, value: string | number] }[];
  };
};

/** As the guard writes it. */
function inSet(kind: FormerElement["kind"], value: string | number): string {
  if (kind === "mac") return String(value);
  return `0x${BigInt(value)
    .toString(16)
    .padStart(kind === "ipv4" ? 8 : 32, "0")}`;
}
