/** The orders that attacker.py takes. It uses the same names. */
export type Order = {
  readonly attack:
    | "theft"
    | "forged_accept"
    | "port_reuse"
    | "kept_injected"
    | "impersonation"
    | "across"
    | "across_blind"
    | "address_added"
    | "overhear";
  /** The attack ends after this time, or with the first credentials. */
  readonly seconds: number;
  readonly victim: string;
  /** The host's address on the attacker's bridge. */
  readonly host: string;
  /** The source MAC of its frames: one of no interface (default), its own, or the victim's. */
  readonly mac?: "ghost" | "own" | "victim";
  /** VLAN tags of each frame, outermost first: ethertype and VLAN id. */
  readonly tags?: readonly (readonly [number, number])[];
  /** 1 is Ethernet (default). Linux accepts 6, IEEE 802, as well. */
  readonly arpHardware?: number;
  /** Where it requests credentials. Default: the metadata address, through the redirect. */
  readonly ask?: readonly [string, number];
  readonly api?: "imds" | "ecs";
  /** `forged_accept`: the address and port that it plays, and the victim's port that it connects to. */
  readonly as?: readonly [string, number];
  readonly victimPort?: number;
  /** `port_reuse` and `kept_injected`: the range of the victim's ports that it tries. */
  readonly ports?: readonly [number, number];
  /** `port_reuse`: first reset the host's side of the victim's connection, and wait for `settle` seconds. */
  readonly endKept?: boolean;
  readonly settle?: number;
  /** `across`: its other interface, and the host's address there. */
  readonly otherInterface?: string;
  readonly otherHost?: string;
  /** `overhear`: whose caches it poisons (ARP or neighbour discovery), or what else it does on the bridge. */
  readonly means?: readonly ("victim" | "host" | "mac" | "lldp" | "flood")[];
  /** `overhear`: seconds between two attempts. */
  readonly pause?: number;
  /** `overhear`: the attack ends when so many requests and answers were overheard. */
  readonly enough?: number;
  /** Default: eth0. "any" is any other, once it has one. */
  readonly interface?: "any";
  /** For a victim that does not run yet. Default: what the victim answers. */
  readonly victimMac?: string;
  /** False if the victim is on no bridge of the attacker. */
  readonly reachesVictim?: boolean;
};

export type Findings = {
  /** CapEff, in hexadecimal. */
  readonly capabilities: string;
  readonly rounds: number;
  /** Connections in the victim's name that the proxy accepted. */
  readonly opened: number;
  /** Number of answers, by request and status. */
  readonly answers: Readonly<Record<string, number>>;
  readonly tokens: readonly string[];
  readonly roles: readonly string[];
  /** Access key ids. */
  readonly credentials: readonly string[];
  readonly bytes: number;
  /** `overhear`: between which times it was under way, in seconds of the monotonic clock. */
  readonly began: number;
  readonly ended: number;
  readonly notes: readonly string[];
  /** Answers, or what was overheard. */
  readonly text: string;
};

/** What the victim got while a neighbour tried to overhear it. */
export type Reading = {
  readonly tokens: readonly string[];
  /** Number of answers with credentials. */
  readonly credentials: number;
  readonly errors: readonly string[];
  /** As in Findings. */
  readonly began: number;
  readonly ended: number;
};
