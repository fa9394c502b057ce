import { isIPv4 } from "node:net";
import type { Backend, Comparison } from "./backend.ts";
import { failure, isPassing, isPermission, mustRun, type Run, whyNot } from "./command.ts";
import { chainsOf, normal, type Priorities } from "./nft-listing.ts";
import type { Chain, ChainName, Rule, Ruleset, Verdict } from "./ruleset.ts";

const table = "inet ec2metaproxy";

const priorities: Priorities = { dstnat: -100, filter: 0, srcnat: 100 };

/**
 * Where the chains hang. Of the nat chains on one hook the first that translates wins, so ours runs just before those at
 * dstnat (-100): Docker's, netavark's, firewalld's. For the filters the order matters little, since no other table's
 * accept overrules a drop; they run before the others at filter (0) so that a reject is ours.
 */
const hooks: Readonly<Partial<Record<ChainName, string>>> = {
  redirect_metadata: "type nat hook prerouting priority -101; policy accept;",
  guard_input: "type filter hook input priority -1; policy accept;",
  guard_forward: "type filter hook forward priority -1; policy accept;",
  // After the translation of sources at srcnat (100).
  guard_masquerade: "type filter hook postrouting priority 101; policy accept;",
  guard_output: "type filter hook output priority -1; policy accept;",
};

/** nftables, by nft(8): one table, replaced in one transaction. */
export function nftables(run: Run): Backend {
  return {
    name: "nftables",
    place: `table ${table}`,
    render,
    async obstacle(rules) {
      const outcome = await run("nft", ["-c", "-f", "-"], render(rules));
      if (outcome.kind === "ran" && outcome.exitCode === 0) return undefined;
      const error = failure("checking the nftables rules", "nft", outcome);
      const decides = isPermission(outcome) || isPassing(outcome);
      return { reason: whyNot("nft", outcome), error, decides };
    },
    async compare(rules) {
      const listing = await list(run);
      return listing === undefined ? absent(rules) : compareListing(rules, listing);
    },
    async apply(rules) {
      const former = await list(run);
      const outcome = await run("nft", ["-f", "-"], render(rules));
      if (outcome.kind === "ran" && outcome.exitCode === 0) return;
      // nft commits all or nothing, but one that is killed may have committed.
      if (outcome.kind === "ran" && (await list(run)) !== former) await restore(run, former);
      throw failure("applying the nftables rules", "nft", outcome);
    },
    async remove() {
      if ((await list(run)) === undefined) return false;
      await mustRun(run, `removing table ${table}`, "nft", ["delete", "table", ...table.split(" ")]);
      return true;
    },
  };
}

/** What `nft -f` takes. `add` before `delete` makes it the same transaction whether the table exists or not. */
function render(rules: Ruleset): string {
  const chains = rules.chains.map((chain) => {
    const lines = linesOf(chain).map((line) => `\t\t${line}\n`);
    return `\tchain ${chain.name} {\n${lines.join("")}\t}\n`;
  });
  return `add table ${table}\ndelete table ${table}\ntable ${table} {\n${inOrder(chains).join("\n")}}\n`;
}

/** nft reads chains in any order inside one table, but a goto's target must come first for versions before 0.9.3. */
function inOrder(chains: readonly string[]): readonly string[] {
  const isBase = (text: string) => text.includes(" hook ");
  return [...chains.filter((text) => !isBase(text)), ...chains.filter(isBase)];
}

function linesOf(chain: Chain): readonly string[] {
  const hook = hooks[chain.name];
  return [...(hook === undefined ? [] : [hook]), ...chain.rules.map(line)];
}

/** In the order and spelling in which `nft list` prints it, so that the two can be compared. */
function line(rule: Rule): string {
  const parts: string[] = [];
  if (rule.from !== undefined) parts.push(`iifname "${rule.from}"`);
  if (rule.out !== undefined) parts.push(`oifname "${rule.out}"`);
  if (rule.source !== undefined) parts.push(`${keyword(rule.source)} saddr ${rule.source}`);
  if (rule.to !== undefined) parts.push(`${keyword(rule.to)} daddr ${rule.to}`);
  if (rule.masqueradedPort !== undefined)
    parts.push(`ct direction original ct status snat tcp sport ${rule.masqueradedPort}`);
  if (rule.sentTo !== undefined) {
    parts.push(`ct direction original ct original ${keyword(rule.sentTo)} daddr ${rule.sentTo}`);
  }
  if (rule.tcpPort !== undefined) parts.push(`tcp dport ${rule.tcpPort}`);
  // After `tcp dport`: without a protocol before it, nft does not read `proto-dst`.
  if (typeof rule.translated === "number") parts.push(`ct original proto-dst ${rule.translated}`);
  if (rule.translated !== undefined) parts.push("ct status dnat");
  // (uid_t)-1 is nobody's; a packet without a socket matches neither this nor any other skuid.
  if (rule.uid !== undefined)
    parts.push(rule.uid === "any" ? "meta skuid != 4294967295" : `meta skuid ${rule.uid}`);
  if (rule.verdict.kind !== "goto") parts.push("counter");
  parts.push(verdictText(rule.verdict));
  if (rule.why !== "") parts.push(`comment "${rule.why}"`);
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

/** @param former a listing of the table, which is also what nft reads; undefined: there was none */
async function restore(run: Run, former: string | undefined): Promise<void> {
  const text = `add table ${table}\ndelete table ${table}\n${former ?? ""}`;
  await mustRun(run, "restoring the former nftables rules", "nft", ["-f", "-"], text);
}

/** Our table as nft lists it, without counters' values; undefined where there is none, or no nft to make one. */
async function list(run: Run): Promise<string | undefined> {
  const outcome = await run("nft", ["-s", "list", "table", ...table.split(" ")]);
  if (outcome.kind === "missing") return undefined;
  if (outcome.exitCode === 0) return outcome.stdout;
  if (/no such file or directory|not supported/i.test(outcome.stderr)) return undefined;
  throw failure("reading the nftables rules", "nft", outcome);
}

function absent(rules: Ruleset): Comparison {
  return {
    present: false,
    missing: [`table ${table}`, ...compareListing(rules, "").missing],
    unexpected: [],
  };
}

/** Exported for its test: listings of several nft versions are its data. */
export function compareListing(rules: Ruleset, listing: string): Comparison {
  const live = chainsOf(listing, table, priorities);
  const missing: string[] = [];
  const unexpected: string[] = [];
  for (const chain of rules.chains) {
    const expected = linesOf(chain).map((text) => normal(text, priorities));
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
