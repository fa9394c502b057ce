import { isIPv4 } from "node:net";
import { addressHex } from "./nft-bridge.ts";

/**
 * The port lock: a MAC or IP address that an engine gave to a container is accepted only from that
 * container's own bridge ports, in Ethernet, ARP, IPv4, IPv6 and neighbour discovery. Other addresses are
 * accepted from every port, so virtual addresses, nested bridges and virtual machines keep working.
 *
 * Not part of the table `bridge ec2metaproxy`, which is replaced as a whole when the host's addresses change:
 * the lock's elements would be lost each time.
 */
export const lockTable = "bridge ec2metaproxy_lock";

/** What the lock holds for one container. */
export type LockEntry = {
  /**
   * Interface indexes of the bridge ports that lead into its network namespace. Not names: an index is not
   * reused soon, and a port keeps it when it is renamed.
   */
  readonly ports: readonly number[];
  /** Its ports are not known yet. */
  readonly isStarting: boolean;
  /** Six bytes in lower-case hex, separated by colons. */
  readonly macs: readonly string[];
  /** IPv4 and IPv6, in canonical form. */
  readonly addresses: readonly string[];
};

export const lockKinds = ["mac", "ipv4", "ipv6"] as const;

/** What a table has for one address of a container: `value` as in the sets. */
export type FormerElement = {
  readonly port: number;
  readonly kind: (typeof lockKinds)[number];
  readonly value: string;
};

/** How long the lock stays in force without the guard. */
export const aliveSeconds = 120;

const setTypes = {
  /** Ports of locked containers. */
  owned: "meta iif",
  /** These, and ports that have been there for so long that no starting container is behind them. */
  settled: "meta iif",
  mac: "ether saddr",
  port_mac: "meta iif . ether saddr",
  // By offset, not by field name, for the reasons in nft-bridge.ts.
  ipv4: "@nh,96,32",
  port_ipv4: "meta iif . @nh,96,32",
  ipv6: "@nh,64,128",
  port_ipv6: "meta iif . @nh,64,128",
  // Addresses of containers that have not started yet. Settled ports may not use them. A new port may,
  // because it may be the starting container's own. Without the addresses of locked containers: a remote
  // engine gives out the same ones, and several containers may have been given one MAC.
  starting_mac: "ether saddr",
  starting_ipv4: "@nh,96,32",
  starting_ipv6: "@nh,64,128",
  // Addresses of containers that have no port here, perhaps only because it was not found.
  portless_mac: "ether saddr",
  portless_ipv4: "@nh,96,32",
  portless_ipv6: "@nh,64,128",
} as const;

export type SetName = keyof typeof setTypes;

/** The elements of each set, in nft's syntax. */
export type LockElements = Readonly<Record<SetName, ReadonlySet<string>>>;

const source = (kind: "mac" | "ipv4" | "ipv6", field: string, when = "") =>
  [
    `${when}${field} @${kind} meta iif . ${field} != @port_${kind} counter drop comment "another container's"`,
    `${when}${field} @starting_${kind} meta iif @settled counter drop comment "a starting container's"`,
    `${when}${field} @portless_${kind} meta iif @owned counter drop comment "another container's"`,
  ] as const;

const chains: readonly (readonly [name: string, lines: readonly string[]])[] = [
  [
    "icmpv6_source",
    [
      ...source("ipv6", "@th,64,128", "@th,0,8 0x88 "),
      // Duplicate address detection for another's address would make its owner give it up.
      ...source("ipv6", "@th,64,128", "@nh,64,128 0x0 @th,0,8 0x87 "),
    ],
  ],
  ["ipv6_source", [...source("ipv6", "@nh,64,128"), "meta l4proto ipv6-icmp goto icmpv6_source"]],
  ["ipv4_source", source("ipv4", "@nh,96,32")],
  ["arp_source", source("ipv4", "@nh,112,32")],
  [
    "locked",
    [
      // More than one VLAN tag hides the rest of the frame.
      "meta protocol 8021q counter drop",
      "meta protocol 8021ad counter drop",
      ...source("mac", "ether saddr"),
      "meta protocol arp goto arp_source",
      "meta protocol ip goto ipv4_source",
      "meta protocol ip6 goto ipv6_source",
    ],
  ],
];

/** The kinds of ports through which a container's frames arrive, as in nft-bridge.ts. */
const kinds = ["veth", "tun", "vxlan", "geneve", "gretap", "ip6gretap", "erspan", "ip6erspan"];

/**
 * A dead man's switch. Frames are checked only if the kind of their port is in this set, whose elements have
 * a timeout. The guard writes the table again before it is over. Without it, a guard that is dead or hangs
 * would leave the addresses of ended containers locked forever, and new containers with these addresses would
 * have no network.
 */
const alive = kinds.map((kind) => `"${kind}" timeout ${aliveSeconds}s`).join(", ");

/**
 * A set that nothing matches. Each of the guard's transactions puts its number there, so that the guard
 * recognises its own changes among those that `nft monitor` reports. Process ids would not do: the kernel
 * reports them as the initial pid namespace numbers them.
 */
export const markSet = "writer";

/**
 * Replaces the whole table in one transaction.
 * @param mark the number of the transaction, 32 bits
 */
export function renderLockTable(elements: LockElements, mark: number): string {
  const sets = setNames.map((name) => {
    const content = elements[name].size === 0 ? "" : ` elements = { ${[...elements[name]].join(", ")} };`;
    return `\tset ${name} { typeof ${setTypes[name]};${content} }\n`;
  });
  const texts = chains.map(
    ([name, lines]) => `\tchain ${name} {\n${lines.map((line) => `\t\t${line}\n`).join("")}\t}\n`,
  );
  return [
    `add table ${lockTable}\ndelete table ${lockTable}\ntable ${lockTable} {\n`,
    `\tset alive { typeof meta iifkind; flags timeout; elements = { ${alive} }; }\n`,
    `\tset ${markSet} { type mark; elements = { ${mark} }; }\n`,
    ...sets,
    ...texts,
    // After the table `bridge ec2metaproxy` (-300), which drops frames with nested VLAN tags.
    "\tchain prerouting {\n\t\ttype filter hook prerouting priority -299; policy accept;\n",
    "\t\tmeta iifkind @alive goto locked\n\t}\n}\n",
  ].join("");
}

/** Changes the sets from one state to another in one transaction. Empty if the two are the same. */
export function renderLockChange(before: LockElements, after: LockElements, mark: number): string {
  const lines = setNames.flatMap((name) => {
    const gone = [...before[name]].filter((element) => !after[name].has(element));
    const come = [...after[name]].filter((element) => !before[name].has(element));
    return [...commands("delete", name, gone), ...commands("add", name, come)];
  });
  return lines.length === 0 ? "" : `${lines.join("")}${marked(mark)}`;
}

/** Removes the table, whether or not there is one. */
export function renderNoLockTable(): string {
  return `add table ${lockTable}\ndelete table ${lockTable}\n`;
}

function marked(mark: number): string {
  return `flush set ${lockTable} ${markSet}\nadd element ${lockTable} ${markSet} { ${mark} }\n`;
}

function commands(verb: "add" | "delete", set: string, elements: readonly string[]): readonly string[] {
  return elements.length === 0 ? [] : [`${verb} element ${lockTable} ${set} { ${elements.join(", ")} }\n`];
}

/**
 * The elements that the sets need for these containers.
 * @param former of a former table: in force unless a container has the address
 * @param strangers ports that may not use the addresses of starting containers
 */
export function lockElements(
  entries: Iterable<LockEntry>,
  former: readonly FormerElement[] = [],
  strangers: readonly number[] = [],
): LockElements {
  const elements = Object.fromEntries(setNames.map((name) => [name, new Set<string>()])) as {
    readonly [name in SetName]: Set<string>; // made from the list of names on this line
  };
  for (const { ports, isStarting, macs, addresses } of entries) {
    const ipv6 = [...addresses.filter((address) => !isIPv4(address)), ...macs.map(linkLocalOf)];
    const values = { mac: macs, ipv4: addresses.filter(isIPv4).map(addressHex), ipv6: ipv6.map(addressHex) };
    for (const port of ports) elements.owned.add(String(port));
    const portless = isStarting ? "starting" : "portless";
    for (const kind of lockKinds) {
      for (const value of values[kind]) {
        elements[ports.length === 0 ? (`${portless}_${kind}` as const) : kind].add(value);
        for (const port of ports) elements[`port_${kind}` as const].add(`${port} . ${value}`);
      }
    }
  }
  const isKnown = ({ kind, value }: FormerElement) =>
    [kind, `starting_${kind}` as const, `portless_${kind}` as const].some((set) => elements[set].has(value));
  for (const { port, kind, value } of former.filter((element) => !isKnown(element))) {
    elements.owned.add(String(port));
    elements[kind].add(value);
    elements[`port_${kind}` as const].add(`${port} . ${value}`);
  }
  for (const port of [...elements.owned, ...strangers]) elements.settled.add(String(port));
  // Its owner sends from a port of its own, which these would refuse.
  for (const kind of lockKinds) {
    for (const value of elements[kind]) {
      elements[`starting_${kind}` as const].delete(value);
      elements[`portless_${kind}` as const].delete(value);
    }
  }
  return elements;
}

/** The link-local address that Linux derives from a MAC (EUI-64, RFC 4291, appendix A). */
function linkLocalOf(mac: string): string {
  const [a = 0, ...rest] = mac.split(":").map((byte) => Number.parseInt(byte, 16));
  const [b = 0, c = 0, d = 0, e = 0, f = 0] = rest;
  const groups = [((a ^ 2) << 8) | b, (c << 8) | 0xff, 0xfe00 | d, (e << 8) | f];
  return `fe80::${groups.map((group) => group.toString(16)).join(":")}`;
}

const setNames = Object.keys(setTypes) as SetName[]; // Object.keys returns strings
