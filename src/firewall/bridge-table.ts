import { isIPv4 } from "node:net";
import { addressBytes, canonicalAddress } from "../config/address.ts";
import type { Comparison } from "./backend.ts";
import { chainsOf, normal, type Priorities } from "./nft-listing.ts";

/**
 * Nobody on a bridge speaks as the host: frames that come in by a container's port and name as their source a metadata
 * address or an address of the host go no further. IPv4, ARP, IPv6 and neighbour discovery.
 */
export const bridgeTable = "bridge ec2metaproxy";

/** In the bridge family `dstnat` is the first of all, which is where this hangs. */
const priorities: Priorities = { dstnat: -300, filter: -200 };

/** How a container's port is told from others. */
export type PortMatch = "by kind" | "by name";

const portMatches: Readonly<Record<PortMatch, readonly string[]>> = {
  // An engine may call a port as it likes; and a network card that is itself on a bridge is none of these, so the real
  // metadata service's answers come in by it. The tunnels: anybody may send a packet to one that ends on this host.
  "by kind": ["veth", "tun", "vxlan", "geneve", "gretap", "ip6gretap", "erspan", "ip6erspan"].map(
    (kind) => `meta iifkind "${kind}"`,
  ),
  // For kernels before 5.1: what Docker and netavark call their ports.
  "by name": [`iifname "veth*"`],
};

type Line = string | ((values: Values) => string);
type Values = { readonly ipv4: string; readonly ipv6: string };

/**
 * Everything about a frame is read by its offset, in chains of their own behind `meta protocol`, and none of it by name:
 *  - `ip saddr` and `icmpv6 type` also compare the EtherType in the frame, which is the tag's in a VLAN-tagged one, so a
 *    forger's tag with VLAN 0, which Linux ignores, would get him past. `meta protocol` is what is behind the tag.
 *  - `arp saddr ip` also compares the hardware type with 1; Linux takes 6 too.
 *  - In a chain that says the protocol, nft would print the offset by its name, and reading that back would bring both in.
 * A goto's target stands before it, for old versions of nft.
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
      // Duplicate address detection: it would make the host give up an address that it is about to use.
      ({ ipv6 }) =>
        `@nh,64,128 0x0 @th,0,8 0x87 @th,64,128 ${ipv6} counter drop comment "claims an address of the host"`,
    ],
  ],
  [
    "ipv6_source",
    [
      ({ ipv6 }) => `@nh,64,128 ${ipv6} counter drop comment "speaks as the host"`,
      // Behind extension headers too: the kernel follows them for `l4proto` and for the offset `th`.
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
      // What is a tag behind the first one. Linux takes two tags with VLAN 0 for none.
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
      // And a line for each kind of port.
    ],
  ],
];

/** The metadata addresses and those of the host, IPv6 in RFC 5952 form. */
export type HostSources = readonly string[];

/** What `nft -f` takes: the whole table, replaced in one transaction. */
export function renderBridgeTable(sources: HostSources, ports: PortMatch): string {
  const text = linesOf(sources, ports).map(
    ([name, lines]) => `\tchain ${name} {\n${lines.map((line) => `\t\t${line}\n`).join("")}\t}\n`,
  );
  return `add table ${bridgeTable}\ndelete table ${bridgeTable}\ntable ${bridgeTable} {\n${text.join("\n")}}\n`;
}

function linesOf(sources: HostSources, ports: PortMatch): readonly (readonly [string, readonly string[]])[] {
  // With the metadata address there are always two: nft prints a set of one as a plain value.
  const ipv4 = setOf([...sources.filter(isIPv4), "127.0.0.1"].map(hex));
  const ipv6 = setOf([...sources.filter((address) => !isIPv4(address)), "::1"].map(hex));
  const values = { ipv4, ipv6 };
  return chains.map(([name, lines]) => [
    name,
    [
      ...lines.map((line) => (typeof line === "string" ? line : line(values))),
      ...(name === "prerouting" ? portMatches[ports].map((port) => `${port} goto from_container`) : []),
    ],
  ]);
}

/** As nft prints it: ascending, without leading zeros. */
function setOf(elements: readonly string[]): string {
  const unique = [...new Set(elements)].sort((a, b) => (BigInt(a) < BigInt(b) ? -1 : 1));
  return `{ ${unique.join(", ")} }`;
}

function hex(address: string): string {
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

/** @param listing what `nft list table` prints; undefined: there is no such table */
export function compareBridgeTable(
  sources: HostSources,
  ports: PortMatch,
  listing: string | undefined,
): Comparison {
  if (listing === undefined) return { present: false, missing: [`table ${bridgeTable}`], unexpected: [] };
  const live = chainsOf(listing, bridgeTable, priorities);
  const missing = new Set<string>();
  const unexpected = new Set<string>();
  for (const [name, lines] of linesOf(sources, ports)) {
    const found = live.get(name);
    live.delete(name);
    if (found === undefined) {
      missing.add(`table ${bridgeTable}: chain ${name}`);
      continue;
    }
    const expected = lines.map((line) => normal(line, priorities));
    if (expected.map(shape).join("\n") !== found.map(shape).join("\n")) {
      const lacking = expected.filter((line) => !found.map(shape).includes(shape(line)));
      const extra = found.filter((line) => !expected.map(shape).includes(shape(line)));
      for (const line of lacking) missing.add(`table ${bridgeTable}: chain ${name}: ${line}`);
      for (const line of extra) unexpected.add(`table ${bridgeTable}: chain ${name}: ${line}`);
      if (lacking.length + extra.length === 0)
        missing.add(`table ${bridgeTable}: chain ${name}: its rules in their order`);
      continue;
    }
    for (const [index, line] of expected.entries()) {
      const [should, is] = [elementsOf(line), elementsOf(found[index] ?? "")];
      for (const address of should.filter((one) => !is.includes(one)))
        missing.add(`table ${bridgeTable}: the address ${address}`);
      for (const address of is.filter((one) => !should.includes(one)))
        unexpected.add(`table ${bridgeTable}: the address ${address}`);
    }
  }
  for (const [name, lines] of live) {
    for (const line of lines.length > 0 ? lines : [""])
      unexpected.add(`table ${bridgeTable}: ${name}: ${line}`);
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
