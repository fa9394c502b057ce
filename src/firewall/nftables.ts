import { isIPv4 } from "node:net";
import type { Backend, Comparison } from "./backend.ts";
import { failure, isPassing, isPermission, type Run, whyNot } from "./command.ts";
import { nftTable, normalize, type Priorities, parseListing, renderTable } from "./nft-table.ts";
import type { Chain, ChainName, Rule, Ruleset, Verdict } from "./ruleset.ts";

const tableName = "inet ec2metaproxy";

const priorities: Priorities = { dstnat: -100, filter: 0, srcnat: 100 };

/**
 * Hooks and priorities. Among nat chains on one hook, the first that translates wins, so ours runs just
 * before those at dstnat (-100): Docker's, netavark's, firewalld's. For filter chains the order matters
 * little, because an accept in another table does not override a drop. They run before the others at filter
 * (0) so that a reject is ours.
 */
const hooks: Readonly<Partial<Record<ChainName, string>>> = {
  redirect_metadata: "type nat hook prerouting priority -101; policy accept;",
  guard_input: "type filter hook input priority -1; policy accept;",
  guard_forward: "type filter hook forward priority -1; policy accept;",
  // After source NAT at srcnat (100).
  guard_masquerade: "type filter hook postrouting priority 101; policy accept;",
  guard_output: "type filter hook output priority -1; policy accept;",
};

/** The rules as one table of the inet family. */
export function nftables(run: Run): Backend {
  const table = nftTable(run, tableName);
  return {
    name: "nftables",
    place: `table ${tableName}`,
    render,
    async obstacle(rules) {
      const outcome = await table.check(render(rules));
      if (outcome.kind === "ran" && outcome.exitCode === 0) return undefined;
      const error = failure(`checking table ${tableName}`, "nft", outcome);
      const decides = isPermission(outcome) || isPassing(outcome);
      return { reason: whyNot("nft", outcome), error, decides };
    },
    async compare(rules) {
      const listing = await table.list();
      return listing === undefined ? absent(rules) : compareListing(rules, listing);
    },
    async apply(rules) {
      await table.replace(render(rules));
    },
    remove: () => table.remove(),
  };
}

function render(rules: Ruleset): string {
  // Base chains last: versions of nft before 0.9.3 need the target of a goto to come first.
  const isBase = ({ name }: Chain) => hooks[name] !== undefined;
  const chains = [...rules.chains.filter((chain) => !isBase(chain)), ...rules.chains.filter(isBase)];
  return renderTable(
    tableName,
    chains.map((chain) => [chain.name, linesOf(chain)]),
  );
}

function linesOf(chain: Chain): readonly string[] {
  const hook = hooks[chain.name];
  return [...(hook === undefined ? [] : [hook]), ...chain.rules.map(line)];
}

/** Matches in the order and spelling of `nft list`, so that the two can be compared. */
function line(rule: Rule): string {
  const parts: string[] = [];
  if (rule.inInterface !== undefined) parts.push(`iifname "${rule.inInterface}"`);
  if (rule.outInterface !== undefined) parts.push(`oifname "${rule.outInterface}"`);
  if (rule.source !== undefined) parts.push(`${keyword(rule.source)} saddr ${rule.source}`);
  if (rule.destination !== undefined) parts.push(`${keyword(rule.destination)} daddr ${rule.destination}`);
  if (rule.masqueradedPort !== undefined)
    parts.push(`ct direction original ct status snat tcp sport ${rule.masqueradedPort}`);
  if (rule.originalDestination !== undefined) {
    parts.push(
      `ct direction original ct original ${keyword(rule.originalDestination)} daddr ${rule.originalDestination}`,
    );
  }
  if (rule.tcpPort !== undefined) parts.push(`tcp dport ${rule.tcpPort}`);
  // After `tcp dport`: nft rejects `proto-dst` without a protocol before it.
  if (typeof rule.dnatFromPort === "number") parts.push(`ct original proto-dst ${rule.dnatFromPort}`);
  if (rule.dnatFromPort !== undefined) parts.push("ct status dnat");
  // No user has the uid (uid_t)-1. A packet without a socket matches neither this nor any other skuid.
  if (rule.uid !== undefined)
    parts.push(rule.uid === "any" ? "meta skuid != 4294967295" : `meta skuid ${rule.uid}`);
  if (rule.verdict.kind !== "goto") parts.push("counter");
  parts.push(verdictText(rule.verdict));
  if (rule.comment !== "") parts.push(`comment "${rule.comment}"`);
  return parts.join(" ");
}

function verdictText(verdict: Verdict): string {
  switch (verdict.kind) {
    case "accept":
    case "drop":
      return verdict.kind;
    case "reject":
      return "reject with icmpx type admin-prohibited";
    case "redirect":
      return `redirect to :${verdict.port}`;
    case "dnat":
      return isIPv4(verdict.address)
        ? `dnat ip to ${verdict.address}:${verdict.port}`
        : `dnat ip6 to [${verdict.address}]:${verdict.port}`;
    case "goto":
      return `goto ${verdict.chain}`;
  }
}

function keyword(address: string): "ip" | "ip6" {
  return isIPv4(address) ? "ip" : "ip6";
}

function absent(rules: Ruleset): Comparison {
  return {
    present: false,
    missing: [`table ${tableName}`, ...compareListing(rules, "").missing],
    unexpected: [],
  };
}

/** Exported for its test, whose data are listings of several nft versions. */
export function compareListing(rules: Ruleset, listing: string): Comparison {
  const live = parseListing(listing, tableName, priorities);
  const missing: string[] = [];
  const unexpected: string[] = [];
  for (const chain of rules.chains) {
    const expected = linesOf(chain).map((text) => normalize(text, priorities));
    const found = live.get(chain.name);
    live.delete(chain.name);
    const lacking = expected.filter((text) => !found?.includes(text));
    const extra = (found ?? []).filter((text) => !expected.includes(text));
    missing.push(...lacking.map((text) => `chain ${chain.name}: ${text}`));
    unexpected.push(...extra.map((text) => `chain ${chain.name}: ${text}`));
    if (found === undefined && expected.length === 0) missing.push(`chain ${chain.name}`);
    else if (lacking.length + extra.length === 0 && expected.join("\n") !== found?.join("\n")) {
      missing.push(`chain ${chain.name}: its rules in their order`);
    }
  }
  for (const [name, lines] of live)
    unexpected.push(...(lines.length > 0 ? lines : [""]).map((text) => `${name}: ${text}`));
  return { present: true, missing, unexpected };
}
