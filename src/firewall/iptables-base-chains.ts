import { madePrefix, type Table, type TableName, type Tables } from "./iptables-rules.ts";
import type { LiveTables } from "./iptables-save.ts";
import type { Family } from "./ruleset.ts";

/**
 * iptables-nft creates an nftables table, and a base chain for each hook, when a rule first needs them, and
 * never removes them. We remove those that did not exist before us. The name of an empty marker chain records
 * which ones they are. (With iptables-legacy there is nothing to remove: its tables are part of the kernel.)
 */
const hooksOf: Readonly<Record<TableName, readonly string[]>> = {
  mangle: ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
  filter: ["INPUT", "FORWARD", "OUTPUT"],
  security: ["INPUT", "FORWARD", "OUTPUT"],
  nat: ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
};

const lettersOf: Readonly<Record<string, string>> = {
  PREROUTING: "P",
  INPUT: "I",
  FORWARD: "F",
  OUTPUT: "O",
  POSTROUTING: "Q",
};

/** Stands for the table itself. A table that existed before, even an empty one, stays. */
const tableLetter = "T";

/**
 * Table -> its chains in nftables. iptables-save prints the built-in chains even if they do not exist there.
 */
export type PresentChains = ReadonlyMap<string, ReadonlySet<string>>;

/** Parses the output of `nft list chains ip` (or ip6). */
export function parseChains(listing: string): PresentChains {
  const tables = new Map<string, Set<string>>();
  for (const part of listing.split(/^table \S+ /m).slice(1)) {
    const chains = [...part.matchAll(/^\s*chain (\S+) \{/gm)].map(([, chain]) => chain ?? "");
    tables.set(part.split(" ")[0] ?? "", new Set(chains));
  }
  return tables;
}

/**
 * Whether any of the wanted tables has no rules of ours yet, so that its existing base chains must be
 * recorded.
 */
export function anyNew(wanted: Tables, live: LiveTables): boolean {
  return [...wanted.keys()].some((name) => !hasRules(live.get(name)));
}

/** Adds to the wanted tables the markers of what does not exist yet. An existing marker stays. */
export function marked(wanted: Tables, live: LiveTables, present: PresentChains | undefined): Tables {
  const withMarker = ([name, table]: readonly [TableName, Table]): readonly [TableName, Table] => {
    const there = live.get(name);
    const earlier = markerIn(there);
    const absent =
      present === undefined || hasRules(there)
        ? []
        : hooksOf[name].filter((hook) => !present?.get(name)?.has(hook));
    if (earlier === undefined && absent.length === 0) return [name, table];
    const letters = [...(present?.has(name) ? [] : [tableLetter]), ...absent.map((hook) => lettersOf[hook])];
    const marker = earlier ?? madePrefix + letters.join("");
    return [name, { chains: new Map([...table.chains, [marker, []]]), jumps: table.jumps }];
  };
  return new Map([...wanted].map(withMarker));
}

function hasRules(table: Table | undefined): boolean {
  return table !== undefined && table.chains.size > 0;
}

function markerIn(table: Table | undefined): string | undefined {
  return [...(table?.chains.keys() ?? [])].find((chain) => chain.startsWith(madePrefix));
}

/** Whether a change drops a table that has a marker. */
export function leavesAny(from: LiveTables, to: Tables): boolean {
  return [...from].some(
    ([name, table]) => markerIn(table) !== undefined && markerIn(to.get(name)) === undefined,
  );
}

/**
 * Input for `nft -f` that deletes the empty chains and tables that a change left behind; an empty string if
 * there are none.
 */
export function leftBehind(
  from: LiveTables,
  to: Tables,
  now: LiveTables,
  present: PresentChains,
  family: Family,
): string {
  const lines: string[] = [];
  for (const [name, table] of from) {
    const marker = markerIn(table);
    const chains = present.get(name);
    if (marker === undefined || markerIn(to.get(name)) !== undefined || chains === undefined) continue;
    const letters = marker.slice(madePrefix.length);
    const made = hooksOf[name].filter((hook) => letters.includes(lettersOf[hook] ?? "?"));
    const idle = made.filter((hook) => chains.has(hook) && now.get(name)?.builtins.get(hook) === "idle");
    const place = `${family === "ipv4" ? "ip" : "ip6"} ${name}`;
    lines.push(...idle.map((hook) => `delete chain ${place} ${hook}`));
    if (letters.includes(tableLetter) && chains.size === idle.length) lines.push(`delete table ${place}`);
  }
  return lines.map((line) => `${line}\n`).join("");
}
