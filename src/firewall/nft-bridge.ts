import { isIPv4 } from "node:net";
import { addressBytes, canonicalAddress } from "../config/address.ts";
import type { Comparison } from "./backend.ts";
import { failure, isPassing, type Run, whyNot } from "./command.ts";
import type { FrameFilter, HostSources } from "./layer2.ts";
import { nftTable, normalize, type Priorities, parseListing, renderTable } from "./nft-table.ts";

const tableName = "bridge ec2metaproxy";

/**
 * The frame filter in nftables' bridge family. It drops frames that arrive on a container's port with a
 * metadata address or an address of the host as their source: IPv4, ARP, IPv6 and neighbour discovery. Also
 * used beside the iptables backend: ebtables knows no neighbour discovery and sees nothing behind a VLAN tag,
 * and no other tool flushes a table of our own.
 */
export function nftBridge(run: Run, ports: PortMatch): FrameFilter {
  const table = nftTable(run, tableName);
  return {
    place: `table ${tableName}`,
    open: ports === "by kind" ? "" : "ports that are not called veth* pass",
    render: (sources) => renderBridgeTable(sources, ports),
    async obstacle(sources) {
      const outcome = await table.check(renderBridgeTable(sources, ports));
      if (outcome.kind === "ran" && outcome.exitCode === 0) return undefined;
      if (isPassing(outcome)) throw failure(`checking table ${tableName}`, "nft", outcome);
      return whyNot("nft", outcome);
    },
    compare: async (sources) => compareBridgeTable(sources, ports, await table.list()),
    apply: (sources) => table.replace(renderBridgeTable(sources, ports)),
    remove: () => table.remove(),
  };
}

/** In the bridge family `dstnat` has the lowest value and runs first. Our base chain is there. */
const priorities: Priorities = { dstnat: -300, filter: -200 };

/** How to tell a container's port from other ports of a bridge. */
export type PortMatch = "by kind" | "by name";

const portMatches: Readonly<Record<PortMatch, readonly string[]>> = {
  // An engine may give a port any name. A network card that is a bridge port is none of these kinds, so
  // answers of the real metadata service still arrive through it. Tunnels are included because anyone can
  // send packets to one that ends here.
  "by kind": ["veth", "tun", "vxlan", "geneve", "gretap", "ip6gretap", "erspan", "ip6erspan"].map(
    (kind) => `meta iifkind "${kind}"`,
  ),
  // For kernels before 5.1, without iifkind: the names that Docker and netavark use.
  "by name": [`iifname "veth*"`],
};

type Line = string | ((values: Values) => string);
type Values = { readonly ipv4: string; readonly ipv6: string };

/**
 * The rules read every field by its offset, not by its name, in separate chains behind `meta protocol`:
 *  - `ip saddr` and `icmpv6 type` also match the EtherType of the frame. In a tagged frame that is the tag's,
 *    so an attacker could evade the rules with a tag for VLAN 0, which Linux ignores. `meta protocol` is the
 *    protocol behind the tag.
 *  - `arp saddr ip` also matches hardware type 1 only. Linux accepts 6 as well.
 *  - In a chain that matches the protocol, nft would list the offset by its field name, and that, read back,
 *    would add both conditions.
 * The target of a goto comes first, for old versions of nft.
 */
const chains: readonly (readonly [name: string, lines: readonly Line[]])[] = [
  [
    "icmpv6_source",
    [
      ({ ipv6 }) =>
        `@th,0,8 0x88 @th,64,128 ${ipv6} counter drop comment "advertises an address of the host"`,
      // The host is the router of its containers' networks.
      `@th,0,8 0x86 counter drop comment "advertises a router"`,
      `@th,0,8 0x89 counter drop comment "redirects"`,
      // Duplicate address detection: the probe makes the host give up an address that it is about to use.
      ({ ipv6 }) =>
        `@nh,64,128 0x0 @th,0,8 0x87 @th,64,128 ${ipv6} counter drop comment "claims an address of the host"`,
    ],
  ],
  [
    "ipv6_source",
    [
      ({ ipv6 }) => `@nh,64,128 ${ipv6} counter drop comment "speaks as the host"`,
      // This includes extension headers: the kernel skips them for `l4proto` and for the offset `th`.
      "meta l4proto ipv6-icmp goto icmpv6_source",
    ],
  ],
  [
    "ipv4_source",
    [
      ({ ipv4 }) => `@nh,96,32 ${ipv4} counter drop comment "speaks as the host"`,
      `@nh,96,8 0x7f counter drop comment "speaks as the host"`,
    ],
  ],
  [
    "arp_source",
    [
      ({ ipv4 }) => `@nh,112,32 ${ipv4} counter drop comment "speaks as the host"`,
      `@nh,112,8 0x7f counter drop comment "speaks as the host"`,
    ],
  ],
  [
    "from_container",
    [
      // A second tag behind the first. Linux treats a frame with two tags for VLAN 0 as untagged.
      `meta protocol 8021q counter drop comment "two VLAN tags"`,
      `meta protocol 8021ad counter drop comment "two VLAN tags"`,
      "meta protocol arp goto arp_source",
      "meta protocol ip goto ipv4_source",
      "meta protocol ip6 goto ipv6_source",
    ],
  ],
  [
    "prerouting",
    [
      "type filter hook prerouting priority -300; policy accept;",
      // linesOf() appends one line per kind of port.
    ],
  ],
];

/** The whole table, as input for `nft -f`. */
export function renderBridgeTable(sources: HostSources, ports: PortMatch): string {
  return renderTable(tableName, linesOf(sources, ports));
}

function linesOf(sources: HostSources, ports: PortMatch): readonly (readonly [string, readonly string[]])[] {
  // Together with the metadata address these are at least two elements: nft prints a set of one as a plain
  // value.
  const ipv4 = setOf([...sources.filter(isIPv4), "127.0.0.1"].map(addressHex));
  const ipv6 = setOf([...sources.filter((address) => !isIPv4(address)), "::1"].map(addressHex));
  const values = { ipv4, ipv6 };
  return chains.map(([name, lines]) => [
    name,
    [
      ...lines.map((line) => (typeof line === "string" ? line : line(values))),
      ...(name === "prerouting" ? portMatches[ports].map((port) => `${port} goto from_container`) : []),
    ],
  ]);
}

/** As nft prints a set: ascending, without leading zeros. */
function setOf(elements: readonly string[]): string {
  const unique = [...new Set(elements)].sort((a, b) => (BigInt(a) < BigInt(b) ? -1 : 1));
  return `{ ${unique.join(", ")} }`;
}

/** As nft prints a raw payload: `0x` and the digits of the number, without leading zeros. */
export function addressHex(address: string): string {
  return `0x${BigInt(`0x${Buffer.from(addressBytes(address)).toString("hex")}`).toString(16)}`;
}

function addressOf(element: string, bits: 32 | 128): string {
  const digits = BigInt(element)
    .toString(16)
    .padStart(bits / 4, "0");
  const parts = digits.match(bits === 32 ? /../g : /..../g) ?? [];
  return bits === 32
    ? parts.map((byte) => Number.parseInt(byte, 16)).join(".")
    : (canonicalAddress(parts.join(":")) ?? element);
}

/** @param listing the output of `nft list table`; undefined if there is no such table */
export function compareBridgeTable(
  sources: HostSources,
  ports: PortMatch,
  listing: string | undefined,
): Comparison {
  if (listing === undefined) return { present: false, missing: [`table ${tableName}`], unexpected: [] };
  const live = parseListing(listing, tableName, priorities);
  const missing = new Set<string>();
  const unexpected = new Set<string>();
  for (const [name, lines] of linesOf(sources, ports)) {
    const found = live.get(name);
    live.delete(name);
    if (found === undefined) {
      missing.add(`table ${tableName}: chain ${name}`);
      continue;
    }
    const expected = lines.map((line) => normalize(line, priorities));
    if (expected.map(shape).join("\n") !== found.map(shape).join("\n")) {
      const lacking = expected.filter((line) => !found.map(shape).includes(shape(line)));
      const extra = found.filter((line) => !expected.map(shape).includes(shape(line)));
      for (const line of lacking) missing.add(`table ${tableName}: chain ${name}: ${line}`);
      for (const line of extra) unexpected.add(`table ${tableName}: chain ${name}: ${line}`);
      if (lacking.length + extra.length === 0)
        missing.add(`table ${tableName}: chain ${name}: its rules in their order`);
      continue;
    }
    for (const [index, line] of expected.entries()) {
      const [should, is] = [elementsOf(line), elementsOf(found[index] ?? "")];
      for (const address of should.filter((one) => !is.includes(one)))
        missing.add(`table ${tableName}: the address ${address}`);
      for (const address of is.filter((one) => !should.includes(one)))
        unexpected.add(`table ${tableName}: the address ${address}`);
    }
  }
  for (const [name, lines] of live) {
    for (const line of lines.length > 0 ? lines : [""])
      unexpected.add(`table ${tableName}: ${name}: ${line}`);
  }
  return { present: true, missing: [...missing], unexpected: [...unexpected] };
}

const addressSet = /,(32|128) \{ (0x[^}]*) \}/;

function shape(line: string): string {
  return line.replace(addressSet, ",$1 {}");
}

function elementsOf(line: string): readonly string[] {
  const [, bits, elements = ""] = addressSet.exec(line) ?? [];
  if (bits === undefined) return [];
  return elements.split(", ").map((element) => addressOf(element, bits === "32" ? 32 : 128));
}
