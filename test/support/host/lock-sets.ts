import { isIPv4 } from "node:net";
import type { Engine } from "./engine.ts";
import type { TestHost } from "./host.ts";

/** What the lock's sets hold, or should hold: sorted texts, by the name of the set. */
export type LockSets = Readonly<Record<string, readonly string[]>>;

/** What this host's kernel has. */
export async function lockSets(host: TestHost): Promise<LockSets> {
  const { stdout } = await host.exec("nft list table bridge ec2metaproxy_lock");
  const sets = stdout.matchAll(/\tset (\w+) \{\n[^}]*?typeof [^\n]*\n(?:\t\telements = \{([^}]*)\}\n)?\t\}/g);
  const found = [...sets].map(([, name = "", elements = ""]) => [
    name,
    elements
      .split(",")
      .map((element) => element.trim().replaceAll('"', ""))
      .filter(Boolean)
      .toSorted(),
  ]);
  const { alive: _, writer: __, ...rest } = Object.fromEntries(found) as Record<string, string[]>; // as built above
  return rest;
}

/**
 * What the running containers have, from their own network namespaces: what neither an engine's API nor
 * `ip netns` says. Engines set addresses for good; those that a container got from a router are dynamic.
 */
export async function expectedSets(host: TestHost, engines: readonly Engine[]): Promise<LockSets> {
  const names = await portNames(host);
  const sets: Record<string, Set<string>> = Object.fromEntries(setNames.map((name) => [name, new Set()]));
  const add = (name: string, element: string) => sets[name]?.add(element);
  for (const engine of engines) {
    for (const pid of await runningPids(engine)) {
      const { stdout } = await host.exec([
        "nsenter",
        "--target",
        pid,
        "--net",
        "ip",
        "-j",
        "address",
        "show",
      ]);
      // A container may use any of its addresses on any of its ports.
      const links = (JSON.parse(stdout) as readonly Link[]).filter((link) => names.has(link.link_index ?? 0)); // ip's own form
      const addresses = links.flatMap(({ address, addr_info }) => [
        linkLocalOf(address),
        ...addr_info
          .filter(({ scope, dynamic }) => scope === "global" && dynamic !== true)
          .map(({ local }) => local),
      ]);
      const elements = [
        ...links.map(({ address }) => ["mac", address] as const),
        ...addresses.map((address) => [isIPv4(address) ? "ipv4" : "ipv6", hex(address)] as const),
      ];
      for (const [name, element] of elements) add(name, element);
      for (const port of links.map(({ link_index }) => names.get(link_index ?? 0) ?? "")) {
        add("owned", port);
        add("settled", port);
        for (const [name, element] of elements) add(`port_${name}`, `${port} . ${element}`);
      }
    }
  }
  return Object.fromEntries(Object.entries(sets).map(([name, set]) => [name, [...set].toSorted()]));
}

/** Polls until the two agree. Resolves with the last of both. */
export async function compareSets(
  host: TestHost,
  engines: readonly Engine[],
): Promise<{ readonly found: LockSets; readonly wanted: LockSets }> {
  for (let tries = 0; ; tries += 1) {
    const both = { found: await lockSets(host), wanted: await expectedSets(host, engines) };
    if (tries === 20 || JSON.stringify(sorted(both.found)) === JSON.stringify(sorted(both.wanted)))
      return both;
  }
}

const sorted = (sets: LockSets) => Object.entries(sets).toSorted(([a], [b]) => a.localeCompare(b));

const setNames = [
  ...["owned", "settled", "mac", "port_mac", "ipv4", "port_ipv4", "ipv6", "port_ipv6"],
  ...["starting_mac", "starting_ipv4", "starting_ipv6"],
  ...["portless_mac", "portless_ipv4", "portless_ipv6"],
];

/** As `ip -j` prints it. */
type Link = {
  readonly link_index?: number;
  readonly address: string;
  readonly addr_info: readonly {
    readonly local: string;
    readonly scope: string;
    readonly dynamic?: boolean;
  }[];
};

/** The host's veths, by index. */
async function portNames(host: TestHost): Promise<ReadonlyMap<number, string>> {
  const { stdout } = await host.exec("ip -j link show type veth");
  const links = JSON.parse(stdout) as readonly { readonly ifindex: number; readonly ifname: string }[]; // ip's own form
  return new Map(links.map(({ ifindex, ifname }) => [ifindex, ifname]));
}

async function runningPids(engine: Engine): Promise<readonly string[]> {
  const ids = (await engine.call("ps", "--quiet", "--no-trunc")).split("\n").filter(Boolean);
  if (ids.length === 0) return [];
  const pids = await engine.call("inspect", "--type=container", "--format={{.State.Pid}}", ...ids);
  return pids.split("\n").filter((pid) => pid !== "0");
}

/** As nft prints a number: without leading zeros. */
function hex(address: string): string {
  const bytes = isIPv4(address)
    ? address.split(".").map((byte) => Number(byte).toString(16).padStart(2, "0"))
    : groupsOf(address).map((group) => group.padStart(4, "0"));
  return `0x${bytes.join("").replace(/^0+/, "")}`;
}

function groupsOf(address: string): readonly string[] {
  const [head = "", tail] = address.split("::");
  const [left, right] = [head, tail ?? ""].map((part) => part.split(":").filter(Boolean)) as [
    string[],
    string[],
  ]; // two in, two out
  const zeros = tail === undefined ? 0 : 8 - left.length - right.length;
  return [...left, ...Array.from({ length: zeros }, () => "0"), ...right];
}

/** EUI-64 (RFC 4291). */
function linkLocalOf(mac: string): string {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = mac.split(":").map((byte) => Number.parseInt(byte, 16));
  const groups = [((a ^ 2) << 8) | b, (c << 8) | 0xff, 0xfe00 | d, (e << 8) | f];
  return `fe80::${groups.map((group) => group.toString(16)).join(":")}`;
}
