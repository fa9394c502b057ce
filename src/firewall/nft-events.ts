import { lockTable, markSet } from "./lock-table.ts";

/** What one transaction of nftables has changed, as far as it matters here. */
export type NftChange = {
  /** The tables of the base rules. */
  readonly base: boolean;
  /** Those of them that are gone. A table that is replaced is not. */
  readonly removed: readonly string[];
  /** The table of the port lock. */
  readonly lock: boolean;
  /** A chain that iptables-nft's rules of ours are in. Whose rules were changed is not reported. */
  readonly iptables: boolean;
  /** The numbers that the transaction put into the lock's set of marks. */
  readonly marks: readonly number[];
};

const baseTables = ["inet ec2metaproxy", "bridge ec2metaproxy"];
const iptablesTables = ["ip nat", "ip filter", "ip mangle", "ip6 nat", "ip6 filter", "ip6 mangle"];

/** Reads the output of `nft monitor`, line by line. */
export class NftEvents {
  #base = false;
  readonly #removed = new Set<string>();
  #lock = false;
  #iptables = false;
  #marks: number[] = [];

  /** Returns the whole change when a transaction ends and has changed something that matters. */
  read(line: string): NftChange | undefined {
    // Of a burst, the kernel drops what nft has not read in time. It may have been about anything.
    if (line.startsWith("# ERROR: We lost some netlink events"))
      return { base: true, removed: [], lock: true, iptables: true, marks: [] };
    if (line.startsWith("# new generation")) {
      const change: NftChange = {
        base: this.#base,
        removed: [...this.#removed],
        lock: this.#lock,
        iptables: this.#iptables,
        marks: this.#marks,
      };
      this.#base = false;
      this.#removed.clear();
      this.#lock = false;
      this.#iptables = false;
      this.#marks = [];
      return change.base || change.lock || change.iptables ? change : undefined;
    }
    const [, verb, kind, family, table, rest = ""] =
      /^(\w+) (table|chain|rule|set|map|element) (\S+) (\S+)(.*)$/.exec(line) ?? [];
    if (verb === undefined) return undefined;
    const name = `${family} ${table}`;
    if (name === lockTable) {
      this.#lock = true;
      const mark = new RegExp(`^ ${markSet} \\{ 0x([0-9a-f]{1,8}) \\}`).exec(rest)?.[1];
      if (verb === "add" && kind === "element" && mark !== undefined)
        this.#marks.push(Number.parseInt(mark, 16));
    } else if (baseTables.includes(name)) {
      this.#base = true;
      if (kind === "table" && verb === "delete") this.#removed.add(name);
      else this.#removed.delete(name);
    } else if (verb === "delete" && iptablesTables.includes(name) && isOfIptables(kind, rest))
      this.#iptables = true;
    return undefined;
  }
}

/** Rules of ours are in chains of our own, and in the base chains that jump to these. */
function isOfIptables(kind: string | undefined, rest: string): boolean {
  return (
    kind === "table" || /^ (EC2METAPROXY\S*|PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING)( |$)/.test(rest)
  );
}
