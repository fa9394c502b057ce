/** A table's chains with their lines, as `nft list` prints them, in one spelling for all versions of nft. */
export type Chains = Map<string, string[]>;

/**
 * What stands in the table outside a chain (`flags dormant`!) goes under "table".
 * @param table family and name
 * @param priorities what the family's names for priorities stand for
 */
export function chainsOf(listing: string, table: string, priorities: Priorities): Chains {
  const chains: Chains = new Map();
  let chain: string | undefined;
  for (const text of listing.split("\n").map((raw) => raw.trim())) {
    if (text === "" || text === `table ${table} {`) continue;
    const name = /^chain (\S+) \{/.exec(text)?.[1];
    if (name !== undefined) {
      chain = name;
      chains.set(name, []);
    } else if (text === "}") chain = undefined;
    else chains.set(chain ?? "table", [...(chains.get(chain ?? "table") ?? []), normal(text, priorities)]);
  }
  return chains;
}

export type Priorities = Readonly<Record<string, number>>;

/** One spelling for what versions of nft print differently: priorities by name, `icmpx type`, handles, counters' values. */
export function normal(text: string, priorities: Priorities): string {
  return text
    .replace(/priority ([a-z]+)(?: ([+-]) (\d+))?;/, (_, name: string, sign = "+", by = "0") => {
      return `priority ${(priorities[name] ?? 0) + Number(`${sign}${by}`)};`;
    })
    .replace("icmpx type ", "icmpx ")
    .replace("meta protocol vlan ", "meta protocol 8021q ")
    .replace(/counter packets \d+ bytes \d+/, "counter")
    .replace(/ # handle \d+$/, "");
}
