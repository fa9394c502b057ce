import { isIPv4 } from "node:net";

import { failure, isPassing, type Outcome, type Run, whyNot } from "./command.ts";
import type { FrameFilter, HostSources } from "./layer2.ts";

/** Two names, so that the new rules are whole before the former ones go. */
const chainNames = ["EC2METAPROXY", "EC2METAPROXY-2"] as const;
type ChainName = (typeof chainNames)[number];

/**
 * ebtables, for a host whose nft knows no bridge family. It is the lesser choice: it reads no address behind a VLAN tag and
 * nothing of neighbour discovery, and knows ports by their names only.
 */
export function ebtables(run: Run): FrameFilter {
  const nat = (...args: readonly string[]) => run("ebtables", ["-t", "nat", ...args]);
  const must = async (...args: readonly string[]) => {
    const outcome = await nat(...args);
    if (outcome.kind === "missing" || outcome.exitCode !== 0)
      throw failure(`running ebtables -t nat ${args.join(" ")}`, "ebtables", outcome);
  };
  /** A listing that fails in passing is not taken for an empty one: the rules in force would be built anew, or given up. */
  const list = async (name: string) => {
    const outcome = await nat("-L", name);
    if (isPassing(outcome)) throw failure("reading the rules for frames", "ebtables", outcome);
    return outcome;
  };
  const live = async (): Promise<Live> => {
    const jumps = rulesIn(await list("PREROUTING"));
    const chains = new Map<ChainName, readonly string[]>();
    for (const name of chainNames) {
      const outcome = await list(name);
      if (outcome.kind === "ran" && outcome.exitCode === 0) chains.set(name, rulesIn(outcome));
    }
    return { jumps: chainNames.filter((name) => jumps.includes(jump(name))), first: jumps[0], chains };
  };
  const drop = async (name: ChainName, { jumps, chains }: Live) => {
    if (jumps.includes(name)) await must("-D", "PREROUTING", ...jump(name).split(" "));
    if (!chains.has(name)) return;
    await must("-F", name);
    await must("-X", name);
  };
  /** The rules in a chain of their own, jumped to before the former chain goes. */
  const replace = async (rules: readonly string[]) => {
    const former = await live();
    const [name, other] = former.jumps.includes(chainNames[0]) ? chainNames.toReversed() : chainNames;
    if (name === undefined || other === undefined) return;
    await drop(name, former);
    await must("-N", name, "-P", "RETURN");
    for (const rule of rules) await must("-A", name, ...rule.split(" "));
    await must("-I", "PREROUTING", ...jump(name).split(" "));
    await drop(other, former);
  };
  return {
    place: "ebtables chain EC2METAPROXY",
    open: "forged neighbour advertisements, router advertisements and redirects pass, and ports that are not called veth*",
    render: (sources) =>
      rulesOf(sources)
        .map((rule) => `ebtables -t nat -A ${chainNames[0]} ${rule}\n`)
        .join(""),
    async obstacle() {
      const outcome = await list("PREROUTING");
      return outcome.kind === "ran" && outcome.exitCode === 0 ? undefined : whyNot("ebtables", outcome);
    },
    async compare(sources) {
      const { jumps, first, chains } = await live();
      const [name] = jumps;
      const expected = rulesOf(sources);
      const found = name === undefined ? [] : (chains.get(name) ?? []);
      const say = (rule: string) => `ebtables -t nat -A ${name ?? chainNames[0]} ${rule}`;
      const missing = expected.filter((rule) => !found.includes(rule)).map(say);
      // Somebody's accept before ours would let all pass.
      if (name === undefined || first !== jump(name))
        missing.unshift(`ebtables -t nat -I PREROUTING ${jump(name ?? chainNames[0])}`);
      const unexpected = found.filter((rule) => !expected.includes(rule)).map(say);
      return { present: name !== undefined, missing, unexpected };
    },
    async apply(sources) {
      const { jumps, chains } = await live();
      const former = jumps[0] === undefined ? undefined : (chains.get(jumps[0]) ?? []);
      const undo = async () => {
        if (former !== undefined) return replace(former);
        const now = await live();
        for (const name of chainNames) await drop(name, now);
      };
      try {
        await replace(rulesOf(sources));
      } catch (error) {
        await undo();
        throw error;
      }
      return undo;
    },
    async remove() {
      const now = await live();
      for (const name of chainNames) await drop(name, now);
      return now.chains.size > 0;
    },
  };
}

type Live = {
  readonly jumps: readonly ChainName[];
  /** The first rule of PREROUTING, whoever's it is. */
  readonly first: string | undefined;
  readonly chains: ReadonlyMap<ChainName, readonly string[]>;
};

const jump = (name: ChainName) => `-i veth+ -j ${name}`;

/** In the order and spelling in which `ebtables -L` prints them. */
function rulesOf(sources: HostSources): readonly string[] {
  const rules = sources.flatMap((address) =>
    isIPv4(address)
      ? [`-p ARP --arp-ip-src ${address} -j DROP`, `-p IPv4 --ip-src ${address} -j DROP`]
      : [`-p IPv6 --ip6-src ${address} -j DROP`],
  );
  // Linux takes a frame with such a tag for an untagged one, and nothing behind the tag can be looked at. Of the provider's tag (802.1ad)
  // ebtables reads no id, and no container needs it.
  return ["-p 802_1Q --vlan-id 0 -j DROP", `-p ${providerTag} -j DROP`, ...rules];
}

const providerTag = "0x88a8";

/** ebtables prints a protocol by its name in /etc/ethertypes, which differ, and by its number where there is no such file. */
const protocolNames: Readonly<Record<string, string>> = {
  "0x806": "ARP",
  "0x800": "IPv4",
  "0x86dd": "IPv6",
  "0x8100": "802_1Q",
  "s-tag": providerTag,
  "802_1ad": providerTag,
};

function protocolName(printed: string): string {
  return protocolNames[printed.toLowerCase().replace(/^0x0+/, "0x")] ?? printed;
}

function rulesIn(listing: Outcome): readonly string[] {
  if (listing.kind === "missing" || listing.exitCode !== 0) return [];
  return listing.stdout
    .split("\n")
    .filter((line) => line.startsWith("-"))
    .map((line) =>
      line
        .trim()
        .replace(/(--ip6-src \S+?)\/(?:128|ffff:\S+)/, "$1")
        .replace(/^-p (\S+)/, (_, printed: string) => `-p ${protocolName(printed)}`),
    );
}
