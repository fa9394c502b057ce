/** What attacker.py is told to do; it knows the words too. */
export type Order = {
  readonly attack:
    | "theft"
    | "forged_accept"
    | "port_reuse"
    | "kept_injected"
    | "impersonation"
    | "across"
    | "across_blind"
    | "address_added";
  /** It stops then, or with the first credentials. */
  readonly seconds: number;
  readonly victim: string;
  /** The host's address on the attacker's bridge. */
  readonly host: string;
  /** The source of its frames: a MAC that is nobody's (default), its own, or the victim's. */
  readonly mac?: "ghost" | "own" | "victim";
  /** VLAN tags around each frame: ethertype and VLAN id. */
  readonly tags?: readonly (readonly [number, number])[];
  /** 1 is Ethernet (default); 6, IEEE 802, is believed as well. */
  readonly arpHardware?: number;
  /** Where it asks for credentials. Default: the metadata address, through the redirect. */
  readonly ask?: readonly [string, number];
  readonly api?: "imds" | "ecs";
  /** `forged_accept`: whom it plays, to which port of the victim. */
  readonly as?: readonly [string, number];
  readonly victimPort?: number;
  /** `port_reuse` and `kept_injected`: the first and the last port of the victim that it tries. */
  readonly ports?: readonly [number, number];
  /** `port_reuse`: first end the host's side of the victim's connection, and wait so many seconds. */
  readonly endKept?: boolean;
  readonly settle?: number;
  /** `across`: its other interface, and the host's address there. */
  readonly otherInterface?: string;
  readonly otherHost?: string;
  /** False where the victim is on no bridge of the attacker's. */
  readonly reachesVictim?: boolean;
};

export type Findings = {
  /** CapEff, in hexadecimal. */
  readonly capabilities: string;
  readonly rounds: number;
  /** Connections in the victim's name that the proxy accepted. */
  readonly opened: number;
  /** How often which status came to which question. */
  readonly answers: Readonly<Record<string, number>>;
  readonly tokens: readonly string[];
  readonly roles: readonly string[];
  /** Access key ids. */
  readonly credentials: readonly string[];
  readonly bytes: number;
  readonly notes: readonly string[];
  /** What was answered, or overheard. */
  readonly text: string;
};
