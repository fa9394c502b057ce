import type { Chain, ChainName, Family, Rule, Ruleset, Verdict } from "./ruleset.ts";

/** A jump from a built-in chain to one of ours; `position` counts from 1. */
export type Jump = { readonly hook: string; readonly chain: string; readonly position: number };

/** Our part of one table: chain -> its rules as iptables-save prints them, without `-A CHAIN`. */
export type Table = {
  readonly chains: ReadonlyMap<string, readonly string[]>;
  readonly jumps: readonly Jump[];
};

/** In the order of commits: the chains that block come before the redirect. */
const tableNames = ["mangle", "filter", "security", "nat"] as const;
export type TableName = (typeof tableNames)[number];
export type Tables = ReadonlyMap<TableName, Table>;

const prefix = "EC2METAPROXY-";

/** The prefix of marker chains; see iptables-base-chains.ts. */
export const madePrefix = `${prefix}MADE-`;

/** A chain name has at most 28 characters, including the prefix. */
const chainNameOf: Readonly<Record<ChainName, string>> = {
  redirect_metadata: `${prefix}REDIRECT`,
  guard_input: `${prefix}INPUT`,
  guard_forward: `${prefix}FORWARD`,
  guard_masquerade: `${prefix}MASQUERADE`,
  guard_output: `${prefix}OUTPUT`,
  proxy_port: `${prefix}PROXY`,
  credentials_port: `${prefix}CREDS`,
  metrics_port: `${prefix}METRICS`,
  refuse_containers: `${prefix}REFUSE`,
  host_users: `${prefix}USERS`,
};

const hookOf: Readonly<Partial<Record<ChainName, string>>> = {
  redirect_metadata: "PREROUTING",
  guard_input: "INPUT",
  guard_forward: "FORWARD",
  guard_output: "OUTPUT",
};

/**
 * The rules of one family, by table. The guard chains go to mangle, which runs before filter and where no
 * other tool accepts packets: in filter, Docker puts its own accept before our jump at each restart. REJECT
 * exists only in filter. With REJECT the guard chains go there, and again as drops to security, which runs
 * after filter and which an accept cannot skip. One more chain in filter accepts the services' ports from
 * containers, for hosts whose INPUT chain drops by default.
 */
export function tablesOf(rules: Ruleset, family: Family): Tables {
  const rejects = rules.chains.some((chain) => chain.rules.some(({ verdict }) => verdict.kind === "reject"));
  const guards = withoutMasquerade(rules.chains.filter(({ name }) => name !== "redirect_metadata"));
  const redirects = rules.chains.filter(({ name }) => name === "redirect_metadata");
  const admitted = acceptChain(rules, family);
  const tables = new Map<TableName, Table>();
  if (rejects) {
    tables.set("filter", withAdmission(tableOf(guards, family, "REJECT"), admitted));
    tables.set("security", tableOf(guards, family, "DROP"));
  } else {
    tables.set("mangle", tableOf(guards, family, "DROP"));
    tables.set("filter", withAdmission({ chains: new Map(), jumps: [] }, admitted));
  }
  const nat = tableOf(redirects, family, "DROP");
  if (nat.chains.size > 0) tables.set("nat", nat);
  return tables;
}

/**
 * iptables has no chain after source NAT. What nftables drops there is dropped before it, by the source port
 * that the packet has then. Remaining gap: source NAT that finds its port taken and happens to choose the
 * credentials port instead.
 */
function withoutMasquerade(chains: readonly Chain[]): readonly Chain[] {
  const early = chains.find(({ name }) => name === "guard_masquerade")?.rules ?? [];
  return chains
    .filter(({ name }) => name !== "guard_masquerade")
    .map((chain) =>
      chain.name === "guard_forward" ? { ...chain, rules: [...early, ...chain.rules] } : chain,
    );
}

function tableOf(chains: readonly Chain[], family: Family, reject: "REJECT" | "DROP"): Table {
  const table = { chains: new Map<string, readonly string[]>(), jumps: [] as Jump[] };
  for (const { name, rules } of chains) {
    const lines = rules
      .filter((rule) => rule.family === undefined || rule.family === family)
      .map((rule) => ruleText(rule, family, reject));
    if (lines.length === 0) continue;
    table.chains.set(chainNameOf[name], lines);
    const hook = hookOf[name];
    if (hook !== undefined) table.jumps.push({ hook, chain: chainNameOf[name], position: 1 });
  }
  return table;
}

const admission = `${prefix}ACCEPT`;

/** Exactly what our port chains accept from containers: ACCEPT here is final for the table. */
function acceptChain(rules: Ruleset, family: Family): readonly string[] {
  const input = rules.chains.find(({ name }) => name === "guard_input")?.rules ?? [];
  return input.flatMap(({ tcpPort, verdict: toChain }) => {
    if (tcpPort === undefined || toChain.kind !== "goto") return [];
    const chain = rules.chains.find(({ name }) => name === toChain.chain)?.rules ?? [];
    // A chain that first drops translated connections accepts only direct ones.
    const direct = chain.some(
      ({ dnatFromPort, verdict }) => dnatFromPort !== undefined && verdict.kind !== "accept",
    );
    return chain
      .filter(
        (rule) =>
          rule.verdict.kind === "accept" && rule.inInterface !== undefined && rule.inInterface !== "lo",
      )
      .filter((rule) => rule.family === undefined || rule.family === family)
      .map((rule) => `${matches({ ...rule, tcpPort }, family, direct)} -j ACCEPT`);
  });
}

function withAdmission(table: Table, rules: readonly string[]): Table {
  const jump = {
    hook: "INPUT",
    chain: admission,
    position: table.jumps.some(({ hook }) => hook === "INPUT") ? 2 : 1,
  };
  return { chains: new Map([...table.chains, [admission, rules]]), jumps: [...table.jumps, jump] };
}

function ruleText(rule: Rule, family: Family, reject: "REJECT" | "DROP"): string {
  return [matches(rule, family, false), target(rule.verdict, family, reject)].filter(Boolean).join(" ");
}

/**
 * In the order and spelling of iptables-save.
 * @param direct match only connections whose destination was not translated
 */
function matches(rule: Rule, family: Family, direct: boolean): string {
  const parts: string[] = [];
  if (rule.source !== undefined) parts.push(`-s ${rule.source}/${family === "ipv4" ? 32 : 128}`);
  if (rule.destination !== undefined) parts.push(`-d ${rule.destination}/${family === "ipv4" ? 32 : 128}`);
  if (rule.inInterface !== undefined) parts.push(`-i ${wildcard(rule.inInterface)}`);
  if (rule.outInterface !== undefined) parts.push(`-o ${wildcard(rule.outInterface)}`);
  if (rule.tcpPort !== undefined || rule.masqueradedPort !== undefined) parts.push("-p tcp");
  const connection: string[] = [];
  if (rule.dnatFromPort !== undefined) connection.push("--ctstate DNAT");
  if (direct) connection.push("! --ctstate DNAT");
  if (rule.originalDestination !== undefined) connection.push(`--ctorigdst ${rule.originalDestination}`);
  if (typeof rule.dnatFromPort === "number") connection.push(`--ctorigdstport ${rule.dnatFromPort}`);
  if (rule.originalDestination !== undefined || rule.masqueradedPort !== undefined)
    connection.push("--ctdir ORIGINAL");
  if (connection.length > 0) parts.push(`-m conntrack ${connection.join(" ")}`);
  if (rule.tcpPort !== undefined) parts.push(`-m tcp --dport ${rule.tcpPort}`);
  if (rule.masqueradedPort !== undefined) parts.push(`-m tcp --sport ${rule.masqueradedPort}`);
  if (rule.uid !== undefined) {
    parts.push(rule.uid === "any" ? "-m owner --socket-exists" : `-m owner --uid-owner ${rule.uid}`);
  }
  return parts.join(" ");
}

function wildcard(pattern: string): string {
  return pattern.replace(/\*$/, "+");
}

function target(verdict: Verdict, family: Family, reject: "REJECT" | "DROP"): string {
  switch (verdict.kind) {
    case "accept":
      // Not ACCEPT: it would also skip the rules of others after ours in this table.
      return "-j RETURN";
    case "drop":
      return "-j DROP";
    case "reject":
      if (reject === "DROP") return "-j DROP";
      return `-j REJECT --reject-with ${family === "ipv4" ? "icmp-admin-prohibited" : "icmp6-adm-prohibited"}`;
    case "redirect":
      return `-j REDIRECT --to-ports ${verdict.port}`;
    case "dnat":
      return `-j DNAT --to-destination ${family === "ipv4" ? verdict.address : `[${verdict.address}]`}:${verdict.port}`;
    case "goto":
      return `-g ${chainNameOf[verdict.chain]}`;
  }
}

/**
 * Input for `iptables-restore --noflush` that changes our chains from one state to another. Each table is one
 * transaction. From an empty map, it is the rules themselves.
 */
export function transition(from: Tables, to: Tables): string {
  // Tables that are only emptied come last: the guard chains exist in their new table before they leave the
  // old one.
  const going = tableNames.filter((name) => ours(from.get(name)) && !to.has(name));
  return [...tableNames.filter((name) => to.has(name)), ...going]
    .map((name) => {
      const was = from.get(name) ?? { chains: new Map<string, readonly string[]>(), jumps: [] };
      const will = to.get(name) ?? { chains: new Map<string, readonly string[]>(), jumps: [] };
      const gone = [...was.chains.keys()].filter((chain) => !will.chains.has(chain));
      const lines = [
        // Declaring a chain creates it, or empties an existing one.
        ...[...will.chains.keys()].map((chain) => `:${chain} - [0:0]`),
        ...[...will.chains].flatMap(([chain, rules]) => rules.map((rule) => `-A ${chain} ${rule}`)),
        ...was.jumps.map(({ hook, chain }) => `-D ${hook} -j ${chain}`),
        ...will.jumps.map(({ hook, chain, position }) => `-I ${hook} ${position} -j ${chain}`),
        ...gone.map((chain) => `-F ${chain}`),
        ...gone.map((chain) => `-X ${chain}`),
      ];
      return `*${name}\n${lines.join("\n")}\nCOMMIT\n`;
    })
    .join("");
}

function ours(table: Table | undefined): boolean {
  return table !== undefined && table.chains.size + table.jumps.length > 0;
}
