import { failure, mustRun, type Outcome, type Run } from "./command.ts";

/** One nftables table that belongs to us alone, by nft(8). */
export type NftTable = {
  /**
   * As nft lists it, without counter values; undefined if there is no such table, or no nft to create one.
   */
  list(): Promise<string | undefined>;
  /** Asks nft whether this host takes the table. Changes nothing. */
  check(text: string): Promise<Outcome>;
  /** Replaces the table in one transaction. @returns a function that restores the previous table */
  replace(text: string): Promise<() => Promise<void>>;
  /** True if there was a table to remove. */
  remove(): Promise<boolean>;
};

/** @param name family and name: `inet ec2metaproxy` */
export function nftTable(run: Run, name: string): NftTable {
  const list = async (): Promise<string | undefined> => {
    const outcome = await run("nft", ["-s", "list", "table", ...name.split(" ")]);
    if (outcome.kind === "missing") return undefined;
    if (outcome.exitCode === 0) return outcome.stdout;
    if (/no such file or directory|not supported/i.test(outcome.stderr)) return undefined;
    throw failure(`reading table ${name}`, "nft", outcome);
  };
  return {
    list,
    check: (text) => run("nft", ["-c", "-f", "-"], text),
    async replace(text) {
      const former = await list();
      const restore = async () => {
        if ((await list()) === former) return;
        // A listing is also valid input for nft.
        const input = `${emptied(name)}${former ?? ""}`;
        await mustRun(run, `restoring table ${name}`, "nft", ["-f", "-"], input);
      };
      const outcome = await run("nft", ["-f", "-"], text);
      if (outcome.kind === "ran" && outcome.exitCode === 0) return restore;
      // nft commits all or nothing, but it may have been killed after the commit.
      if (outcome.kind === "ran") await restore();
      throw failure(`applying table ${name}`, "nft", outcome);
    },
    async remove() {
      if ((await list()) === undefined) return false;
      await mustRun(run, `removing table ${name}`, "nft", ["delete", "table", ...name.split(" ")]);
      return true;
    },
  };
}

type NamedChain = readonly [name: string, lines: readonly string[]];

/** Input for `nft -f` that replaces the whole table in one transaction. */
export function renderTable(name: string, chains: readonly NamedChain[]): string {
  const text = chains.map(
    ([chain, lines]) => `\tchain ${chain} {\n${lines.map((line) => `\t\t${line}\n`).join("")}\t}\n`,
  );
  return `${emptied(name)}table ${name} {\n${text.join("\n")}}\n`;
}

/** `add` before `delete`, so that the same transaction works whether or not the table exists. */
function emptied(name: string): string {
  return `add table ${name}\ndelete table ${name}\n`;
}

/** The chains of a table with their lines as `nft list` prints them, normalized across versions of nft. */
export type Chains = Map<string, string[]>;

/**
 * Lines outside a chain (`flags dormant`, which disables the table) are returned under the key "table".
 * @param name family and name of the table
 * @param priorities the values of the family's priority names
 */
export function parseListing(listing: string, name: string, priorities: Priorities): Chains {
  const chains: Chains = new Map();
  let chain: string | undefined;
  for (const text of listing.split("\n").map((raw) => raw.trim())) {
    if (text === "" || text === `table ${name} {`) continue;
    const opened = /^chain (\S+) \{/.exec(text)?.[1];
    if (opened !== undefined) {
      chain = opened;
      chains.set(opened, []);
    } else if (text === "}") chain = undefined;
    else chains.set(chain ?? "table", [...(chains.get(chain ?? "table") ?? []), normalize(text, priorities)]);
  }
  return chains;
}

export type Priorities = Readonly<Record<string, number>>;

/** Removes differences between versions of nft: priority names, `icmpx type`, handles, counter values. */
export function normalize(text: string, priorities: Priorities): string {
  return text
    .replace(/priority ([a-z]+)(?: ([+-]) (\d+))?;/, (_, name: string, sign = "+", by = "0") => {
      return `priority ${(priorities[name] ?? 0) + Number(`${sign}${by}`)};`;
    })
    .replace("icmpx type ", "icmpx ")
    .replace("meta protocol vlan ", "meta protocol 8021q ")
    .replace(/counter packets \d+ bytes \d+/, "counter")
    .replace(/ # handle \d+$/, "");
}
