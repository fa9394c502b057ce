import { isIPv4 } from "node:net";
import { failure, isPassing, type Outcome, type Run, whyNot } from "./command.ts";
import type { FrameFilter, HostSources } from "./layer2.ts";

/** Two chains that alternate: the new one is complete before the old one is removed. */
const chainNames = ["EC2METAPROXY", "EC2METAPROXY-2"] as const;
type ChainName = (typeof chainNames)[number];

/**
 * The frame filter by ebtables, for a host whose nft has no bridge family. It is weaker: it cannot match
 * addresses behind a VLAN tag or in neighbour discovery, and matches ports only by name.
 */
export function ebtables(run: Run): FrameFilter {
  const nat = (...args: readonly string[]) => run("ebtables", ["-t", "nat", ...args]);
  const must = async (...args: readonly string[]) => {
    const outcome = await nat(...args);
    if (outcome.kind === "missing" || outcome.exitCode !== 0)
      throw failure(`running ebtables -t nat ${args.join(" ")}`, "ebtables", outcome);
  };
  /**
   * A temporary failure is not an empty listing: treating it as one would rebuild or remove the rules in
   * force.
   */
  const list = async (name: string) => {
    const outcome = await nat("-L", name);
    if (isPassing(outcome)) throw failure("reading the ebtables rules", "ebtables", outcome);
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
  /** Builds the rules in a new chain, and jumps to it before the old chain is removed. */
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
      // An accept before our jump would bypass our rules.
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
  /** The first rule of PREROUTING, ours or not. */
  readonly first: string | undefined;
  readonly chains: ReadonlyMap<ChainName, readonly string[]>;
};

const jump = (name: ChainName) => `-i veth+ -j ${name}`;

/** In the order and spelling of `ebtables -L`. */
function rulesOf(sources: HostSources): readonly string[] {
  const rules = sources.flatMap((address) =>
    isIPv4(address)
      ? [`-p ARP --arp-ip-src ${address} -j DROP`, `-p IPv4 --ip-src ${address} -j DROP`]
      : [`-p IPv6 --ip6-src ${address} -j DROP`],
  );
  // Linux treats a frame with a tag for VLAN 0 as untagged, and ebtables cannot match what is behind the tag.
  // It cannot match the id of an 802.1ad tag at all; no container needs such a tag.
  return ["-p 802_1Q --vlan-id 0 -j DROP", `-p ${providerTag} -j DROP`, ...rules];
}

const providerTag = "0x88a8";

/**
 * ebtables prints protocol names from /etc/ethertypes, which differ between hosts; without that file,
 * numbers.
 */
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
