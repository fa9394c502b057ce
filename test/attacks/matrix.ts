import type { Column, Layer } from "./layers.ts";
import type { Order } from "./order.ts";
import {
  type Attacker,
  credentialsPort,
  type Event,
  hostAddress,
  proxyPort,
  restarted,
  victim,
} from "./scene.ts";

/** An attack, and the layers that stop it, each on its own. */
export type Entry = {
  readonly name: string;
  readonly attacker: Attacker;
  readonly order: Omit<Order, "seconds">;
  /**
   * net.bridge.bridge-nf-call-iptables and -ip6tables: whether frames between containers pass the host's IP
   * rules.
   */
  readonly bridgeNf: 0 | 1;
  readonly stoppedBy: readonly Layer[];
  /** What the attack lacks, if it fails without any layer. */
  readonly never?: string;
  /** What happens during the attack. */
  readonly event?: Event;
};

const metadata = ["169.254.169.254", 80] as const;
const metadata6 = ["fd00:ec2::254", 80] as const;
const proxy = [hostAddress.ipv4, proxyPort] as const;
const proxy6 = [hostAddress.ipv6, proxyPort] as const;
const elsewhere = [hostAddress.elsewhere, proxyPort] as const;
const credentials = [hostAddress.ipv4, credentialsPort] as const;
const credentials6 = [hostAddress.ipv6, credentialsPort] as const;
const credentialsElsewhere = [hostAddress.elsewhere, credentialsPort] as const;

const four = { victim: victim.ipv4, host: hostAddress.ipv4 };
const six = { victim: victim.ipv6, host: hostAddress.ipv6 };

type Forged = Pick<Order, "as" | "ask"> & Partial<Order>;
const forged = (how: Forged, bridgeNf: 0 | 1, stoppedBy: readonly Layer[]) => ({
  attacker: "neighbour" as const,
  order: { attack: "forged_accept" as const, ...four, victimPort: victim.port, ...how },
  bridgeNf,
  // The attacker speaks to the proxy as the victim.
  stoppedBy: [...stoppedBy, "lock"] as const,
});
const once = { victimPort: victim.once };

const forgedAccepts: readonly Entry[] = [
  // To a port that stays open: the proof detects that it is listening.
  {
    name: "forged accept as proxy, direct",
    ...forged({ as: proxy, ask: proxy }, 0, ["redirected", "host", "proof"]),
  },
  {
    name: "forged accept as proxy, redirected",
    ...forged({ as: proxy, ask: metadata }, 0, ["host", "proof"]),
  },
  {
    name: "forged accept as metadata, direct",
    ...forged({ as: metadata, ask: proxy }, 0, ["redirected", "host", "proof"]),
  },
  {
    name: "forged accept as metadata, redirected",
    ...forged({ as: metadata, ask: metadata }, 0, ["host", "proof"]),
  },
  {
    name: "forged accept as proxy, direct, bridge-nf",
    ...forged({ as: proxy, ask: proxy }, 1, ["redirected", "host", "proof"]),
  },
  {
    // Tagged frames bypass the host's IP rules, and so the connection tracking that would change the
    // redirected port.
    name: "forged accept as proxy, redirected, tagged, bridge-nf",
    ...forged({ as: proxy, ask: metadata, tags: [[0x8100, 0]] }, 1, ["host", "proof"]),
  },
  {
    name: "forged accept as credentials port",
    ...forged({ as: credentials, ask: credentials, api: "ecs" }, 0, ["host", "proof"]),
  },
  {
    name: "forged accept IPv6 as proxy, direct",
    ...forged({ ...six, as: proxy6, ask: proxy6 }, 1, ["redirected", "host", "proof"]),
  },
  {
    name: "forged accept IPv6 as metadata, redirected",
    ...forged({ ...six, as: metadata6, ask: metadata6 }, 0, ["host", "proof"]),
  },
  // To a port that accepts once and then closes: only the frames show the forgery.
  {
    name: "listens once, as proxy, direct",
    ...forged({ ...once, as: proxy, ask: proxy }, 0, ["redirected", "host", "proof"]),
  },
  {
    name: "listens once, as metadata, direct",
    ...forged({ ...once, as: metadata, ask: proxy }, 0, ["redirected", "host"]),
  },
  {
    name: "listens once, as metadata, redirected",
    ...forged({ ...once, as: metadata, ask: metadata }, 0, ["host"]),
  },
  {
    name: "listens once, own MAC",
    ...forged({ ...once, as: metadata, ask: metadata, mac: "own" }, 0, ["host"]),
  },
  {
    name: "listens once, as credentials port",
    ...forged({ ...once, as: credentials, ask: credentials, api: "ecs" }, 1, ["host"]),
  },
  {
    name: "listens once, as credentials port elsewhere",
    ...forged({ ...once, as: credentialsElsewhere, ask: credentialsElsewhere, api: "ecs" }, 1, ["host"]),
  },
  {
    name: "listens once, IPv6, as metadata, redirected",
    ...forged({ ...six, ...once, as: metadata6, ask: metadata6 }, 0, ["host"]),
  },
  {
    name: "listens once, IPv6, as credentials port",
    ...forged({ ...six, ...once, as: credentials6, ask: credentials6, api: "ecs" }, 1, ["host"]),
  },
  // Frames that packet filters interpret differently from Linux.
  {
    name: "listens once, priority tag",
    ...forged({ ...once, as: metadata, ask: metadata, tags: [[0x8100, 0]] }, 0, ["host"]),
  },
  {
    name: "listens once, 802.1ad tag",
    ...forged({ ...once, as: metadata, ask: metadata, tags: [[0x88a8, 0]] }, 0, ["host"]),
  },
  {
    name: "listens once, two tags",
    ...forged(
      {
        ...once,
        as: metadata,
        ask: metadata,
        tags: [
          [0x88a8, 0],
          [0x8100, 0],
        ],
      },
      0,
      ["host"],
    ),
  },
  {
    name: "listens once, two priority tags",
    ...forged(
      {
        ...once,
        as: metadata,
        ask: metadata,
        tags: [
          [0x8100, 0],
          [0x8100, 0],
        ],
      },
      0,
      ["host"],
    ),
  },
  {
    name: "listens once, IPv6, priority tag",
    ...forged({ ...six, ...once, as: metadata6, ask: metadata6, tags: [[0x8100, 0]] }, 0, ["host"]),
  },
  {
    name: "listens once, priority tag, bridge-nf",
    ...forged({ ...once, as: credentials, ask: credentials, api: "ecs", tags: [[0x8100, 0]] }, 1, ["host"]),
  },
  {
    name: "listens once, ARP hardware 6",
    ...forged({ ...once, as: metadata, ask: metadata, arpHardware: 6 }, 0, ["host"]),
  },
  {
    name: "listens once, ARP hardware 6, tagged",
    ...forged({ ...once, as: metadata, ask: metadata, arpHardware: 6, tags: [[0x8100, 0]] }, 0, ["host"]),
  },
  {
    name: "the service played to the victim, IPv6",
    attacker: "neighbour",
    order: { attack: "impersonation", ...six },
    bridgeNf: 0,
    stoppedBy: ["host", "lock"],
  },
  {
    name: "the service played to the victim",
    attacker: "neighbour",
    order: { attack: "impersonation", ...four },
    bridgeNf: 0,
    stoppedBy: ["host", "lock"],
  },
];

const reuse = (how: Partial<Order>, stoppedBy: readonly Layer[]) => ({
  attacker: "neighbour" as const,
  order: { attack: "port_reuse" as const, ...four, ports: [victim.kept, victim.kept] as const, ...how },
  bridgeNf: 1 as const,
  stoppedBy: [...stoppedBy, "lock"] as const,
});

/** Ports to scan on either side of the right one. A scan tries some dozens per second. */
const scanned = 30;

const portReuses: readonly Entry[] = [
  { name: "port reuse, another host address", ...reuse({ ask: elsewhere }, ["redirected"]) },
  {
    name: "port reuse, another host address, scan",
    ...reuse({ ask: elsewhere, ports: [victim.kept - scanned, victim.kept + scanned] }, ["redirected"]),
  },
  // The host has a connection with these addresses and ports. The attacker resets it first; the victim is not
  // told.
  {
    name: "port reuse, the bridge's own address",
    ...reuse({ ask: proxy, endKept: true, settle: 3 }, ["redirected"]),
  },
  { name: "port reuse, credentials port", ...reuse({ ask: credentials, api: "ecs" }, ["proof"]) },
];

const neighbour = (
  order: Omit<Order, "seconds">,
): Pick<Entry, "attacker" | "order" | "bridgeNf" | "stoppedBy"> => ({
  attacker: "neighbour",
  order,
  bridgeNf: 1,
  stoppedBy: ["proof", "lock"],
});

const thefts: readonly Entry[] = [
  { name: "address theft by ARP", ...neighbour({ attack: "theft", ...four }) },
  { name: "address theft by ARP, own MAC", ...neighbour({ attack: "theft", ...four, mac: "own" }) },
  { name: "address theft, the victim's MAC", ...neighbour({ attack: "theft", ...four, mac: "victim" }) },
  {
    name: "address theft by ARP hardware 6, tagged",
    ...neighbour({ attack: "theft", ...four, arpHardware: 6, tags: [[0x8100, 0]] }),
  },
  {
    name: "address theft, credentials port",
    ...neighbour({ attack: "theft", ...four, ask: credentials, api: "ecs" }),
  },
  {
    name: "IPv6 theft by neighbour advertisement",
    ...neighbour({ attack: "theft", ...six, ask: metadata6 }),
  },
  {
    name: "IPv6 theft, the victim's MAC",
    ...neighbour({ attack: "theft", ...six, ask: metadata6, mac: "victim" }),
  },
  {
    ...neighbour({ attack: "address_added", ...four }),
    name: "address added (NET_ADMIN)",
    attacker: "admin",
  },
  {
    ...neighbour({ attack: "address_added", ...six, ask: metadata6 }),
    name: "IPv6 address added (NET_ADMIN)",
    attacker: "admin",
  },
  {
    ...neighbour({ attack: "across", ...four, otherInterface: "eth1", otherHost: hostAddress.other }),
    name: "spoofed from another bridge, answers caught",
    attacker: "straddler",
  },
  {
    ...neighbour({
      attack: "across_blind",
      victim: victim.ipv4,
      host: hostAddress.other,
      reachesVictim: false,
    }),
    name: "spoofed from another bridge, blind",
    attacker: "stranger",
    never: "the answers, which go to the victim",
  },
];

export const matrix: readonly Entry[] = [...forgedAccepts, ...portReuses, ...thefts];

/** An attack from an address that the host got recently; the rules may not cover it yet. */
export const asLateAddress = (address: string, stoppedBy: readonly Layer[]): Entry => ({
  name: "listens once, as credentials port at a new address",
  ...forged(
    { ...once, as: [address, credentialsPort], ask: [address, credentialsPort], api: "ecs" },
    1,
    stoppedBy,
  ),
});

/** Attacks on a connection of the victim's own. */
const onKeptConnections: readonly Entry[] = [
  {
    ...neighbour({ attack: "kept_injected", ...four, ports: [victim.kept, victim.kept] }),
    name: "kept connection, requests injected",
    stoppedBy: ["lock"],
  },
  {
    ...neighbour({ attack: "kept_injected", ...four, ports: [victim.kept - scanned, victim.kept + scanned] }),
    name: "kept connection, its port found by a scan",
    stoppedBy: ["lock"],
  },
  {
    ...neighbour({
      attack: "port_reuse",
      ...four,
      ports: [victim.kept, victim.kept],
      endKept: true,
      settle: 0,
    }),
    name: "kept connection, ended and opened again",
    stoppedBy: ["lock"],
  },
];

export const isOnKept = (entry: Entry): boolean => onKeptConnections.includes(entry);

type Overhearing = Pick<Order, "means"> & Partial<Order>;
const overhearing = (how: Overhearing, stoppedBy: readonly Layer[]) => ({
  ...neighbour({ attack: "overhear", ...four, ...how }),
  // Otherwise the host's redirect takes the victim's requests out of the bridge, whoever they are sent to.
  bridgeNf: 0 as const,
  stoppedBy,
});

/** Attacks that read what the victim is served. */
const inTransit: readonly Entry[] = [
  {
    name: "read in transit, the victim's ARP cache",
    ...overhearing({ means: ["victim"] }, ["host"]),
  },
  { name: "read in transit, the host's ARP cache", ...overhearing({ means: ["host"] }, ["lock"]) },
  {
    name: "read in transit, both ARP caches",
    ...overhearing({ means: ["victim", "host"] }, ["lock"]),
  },
  {
    name: "read in transit, own MAC",
    ...overhearing({ means: ["victim", "host"], mac: "own" }, ["lock"]),
  },
  {
    name: "read in transit, neighbour advertisements",
    ...overhearing({ means: ["host"], ...six }, ["lock"]),
  },
  {
    name: "read in transit, the victim's MAC",
    ...overhearing({ means: ["mac"], pause: 0.001 }, ["lock"]),
  },
  {
    name: "read in transit, the victim's MAC in LLDP frames",
    ...overhearing({ means: ["lldp"], pause: 0.001 }, ["lock"]),
  },
  {
    name: "read in transit, the bridge's table flooded",
    ...overhearing({ means: ["flood"], pause: 0.01 }, []),
    never: "a table that can be full: a Linux bridge's has no limit by default",
  },
  {
    ...overhearing({ means: ["host"], victim: restarted.ipv4, victimMac: restarted.mac, pause: 0.01 }, [
      "lock",
    ]),
    name: "read in transit, while the victim restarts",
    event: "victim restarts",
  },
  {
    ...overhearing({ means: ["host", "mac"], interface: "any", pause: 0.005 }, ["lock"]),
    name: "read in transit, from a network connected for it",
    attacker: "stranger",
    event: "attacker connects",
  },
];

/** Attacks on the victim's own traffic, which only a lock on the bridge's ports stops. */
export const onTheWire: readonly Entry[] = [...onKeptConnections, ...inTransit];

/** Whether the attack gets credentials, or overhears answers, with these layers. */
export const succeeds = (entry: Entry, { on }: Column): boolean =>
  entry.never === undefined && !entry.stoppedBy.some((layer) => on.includes(layer));
