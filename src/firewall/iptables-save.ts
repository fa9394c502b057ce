import { type Jump, madePrefix, type Table, type TableName, type Tables } from "./iptables-rules.ts";

/** One table in force: our part of it, and what affects it. */
type LiveTable = Table & {
  /** Our jumps that an earlier rule can keep packets from reaching. */
  readonly bypassed: readonly Jump[];
  /** The built-in chains. Idle: the policy is ACCEPT and every rule is ours. */
  readonly builtins: ReadonlyMap<string, "idle" | "used">;
};

export type LiveTables = ReadonlyMap<TableName, LiveTable>;

/** Parses the output of iptables-save. Tables that we never use are left out. */
export function parseSave(text: string): LiveTables {
  const tables = new Map<TableName, LiveTable>();
  for (const part of text.split(/^\*/m).slice(1)) {
    const [name = "", ...lines] = part.split("\n");
    if (name === "mangle" || name === "filter" || name === "security" || name === "nat") {
      tables.set(name, parseTable(lines));
    }
  }
  return tables;
}

function parseTable(lines: readonly string[]): LiveTable {
  const chains = new Map<string, string[]>();
  const jumps: Jump[] = [];
  const bypassed: Jump[] = [];
  const before = new Map<string, string[]>();
  const builtins = new Map<string, "idle" | "used">();
  for (const line of lines) {
    const [, chain, policy] = /^:(\S+) (\S+)/.exec(line) ?? [];
    if (chain !== undefined) {
      if (isOurs(chain)) chains.set(chain, []);
      else if (policy !== "-") builtins.set(chain, policy === "ACCEPT" ? "idle" : "used");
      continue;
    }
    const [, hook, rule] = /^-A (\S+) (.*)$/.exec(line) ?? [];
    if (hook === undefined || rule === undefined) continue;
    if (isOurs(hook)) {
      chains.get(hook)?.push(rule);
      continue;
    }
    const earlier = before.get(hook) ?? [];
    const target = /^-j (\S+)$/.exec(rule)?.[1];
    if (target !== undefined && isOurs(target)) {
      const jump = { hook, chain: target, position: earlier.length + 1 };
      jumps.push(jump);
      if (earlier.some((text) => decides(text, target))) bypassed.push(jump);
    } else if (builtins.has(hook)) builtins.set(hook, "used");
    before.set(hook, [...earlier, rule]);
  }
  return { chains, jumps, bypassed, builtins };
}

function isOurs(chain: string): boolean {
  return chain.startsWith("EC2METAPROXY-");
}

/** Whether a rule before our jump can decide about a packet that our rules should see. */
function decides(rule: string, jumpTarget: string): boolean {
  const deciding = jumpTarget.endsWith("-ACCEPT")
    ? /-j (DROP|REJECT)\b/
    : /-j (ACCEPT|RETURN|DNAT|REDIRECT)\b/;
  // Many hosts drop INVALID packets first. That keeps no request from our rules.
  return deciding.test(rule) && !/--ctstate INVALID\b/.test(rule);
}

/** The differences between the rules in force and the wanted ones, in iptables syntax. */
export function differences(live: LiveTables, wanted: Tables, command: string) {
  const missing: string[] = [];
  const unexpected: string[] = [];
  const names = new Set([...wanted.keys(), ...live.keys()]);
  for (const name of names) {
    const is = live.get(name) ?? { chains: new Map<string, readonly string[]>(), jumps: [], bypassed: [] };
    const should = wanted.get(name) ?? { chains: new Map<string, readonly string[]>(), jumps: [] };
    const say = (text: string) => `${command} -t ${name} ${text}`;
    for (const [chain, rules] of should.chains) {
      const found = is.chains.get(chain)?.map(normal);
      const expected = rules.map(normal);
      const lacking = rules.filter((rule) => !found?.includes(normal(rule)));
      missing.push(...lacking.map((rule) => say(`-A ${chain} ${rule}`)));
      const extra = (is.chains.get(chain) ?? []).filter((rule) => !expected.includes(normal(rule)));
      unexpected.push(...extra.map((rule) => say(`-A ${chain} ${rule}`)));
      if (lacking.length + extra.length === 0 && found?.join("\n") !== expected.join("\n")) {
        missing.push(say(`${chain}: its rules in their order`));
      }
    }
    for (const chain of is.chains.keys()) {
      if (!should.chains.has(chain) && !chain.startsWith(madePrefix)) unexpected.push(say(`-N ${chain}`));
    }
    for (const { hook, chain } of should.jumps) {
      const same = (jump: Jump) => jump.hook === hook && jump.chain === chain;
      const count = is.jumps.filter(same).length;
      if (count === 0) missing.push(say(`-I ${hook} -j ${chain}`));
      else if (is.bypassed.some(same))
        missing.push(say(`-I ${hook} -j ${chain}, before the rules that decide first`));
      if (count > 1) unexpected.push(say(`-A ${hook} -j ${chain}, ${count} times`));
    }
    for (const { hook, chain } of is.jumps) {
      const known = should.jumps.some((jump) => jump.hook === hook && jump.chain === chain);
      if (!known) unexpected.push(say(`-A ${hook} -j ${chain}`));
    }
  }
  return { missing, unexpected };
}

/** Versions of iptables print the matches of a rule in different orders. */
function normal(rule: string): string {
  return rule.split(" ").sort().join(" ");
}

export function hasOurs(live: LiveTables): boolean {
  return [...live.values()].some(({ chains, jumps }) => chains.size + jumps.length > 0);
}
