import type { Settings } from "./settings.ts";

export type Family = "ipv4" | "ipv6";

/** The chains, by what they do. The first five hang on a hook of the kernel, the others are gone to from those. */
export const chainNames = [
  "redirect_metadata",
  "guard_input",
  "guard_forward",
  "guard_masquerade",
  "guard_output",
  "proxy_port",
  "credentials_port",
  "metrics_port",
  "refuse_containers",
  "host_users",
] as const;

export type ChainName = (typeof chainNames)[number];

export type Verdict =
  | { readonly kind: "accept" | "drop" | "reject" }
  /** To the address of the interface that the packet came in by. */
  | { readonly kind: "redirect"; readonly port: number }
  | { readonly kind: "dnat"; readonly address: string; readonly port: number }
  | { readonly kind: "goto"; readonly chain: ChainName };

/** All that is given must match. Rules have one family, or hold for both. */
export type Rule = {
  readonly family?: Family;
  /** Incoming interface: a name, or its beginning and `*`. */
  readonly from?: string;
  /** Outgoing interface, likewise. */
  readonly out?: string;
  /** The packet's source. */
  readonly source?: string;
  /** The packet's destination. */
  readonly to?: string;
  /** The destination of the connection's first packet, before any translation; matches only packets in that direction. */
  readonly sentTo?: string;
  readonly tcpPort?: number;
  /** The first packets' direction only, and where the filter can tell, only those whose source the host has replaced. */
  readonly masqueradedPort?: number;
  /** Only connections whose destination was translated; with a number, those that were first sent to that port. */
  readonly translated?: number | "from any port";
  /** The user whose socket sends it; `any` matches every packet that has a socket. */
  readonly uid?: number | "any";
  readonly verdict: Verdict;
  /** Shown beside the rule; empty for a plain goto. */
  readonly why: string;
};

export type Chain = { readonly name: ChainName; readonly rules: readonly Rule[] };

/** What the host's packet filter shall hold, whichever filter it is. */
export type Ruleset = {
  readonly chains: readonly Chain[];
  /** Metadata addresses that no forwarded packet may be routed to, and how it is refused; none: routing is left alone. */
  readonly guarded:
    | { readonly addresses: readonly string[]; readonly action: "blackhole" | "prohibit" }
    | undefined;
};

/**
 * The rules of these settings; pure.
 * @param hostUids users that may reach the metadata service from the host itself; undefined: everybody
 */
export function ruleset(settings: Settings, hostUids: readonly number[] | undefined): Ruleset {
  const metadata = [
    { family: "ipv4", address: settings.metadataIpv4 },
    { family: "ipv6", address: settings.metadataIpv6 },
  ] as const;
  const refuse: Verdict = { kind: settings.rejectInsteadOfDrop ? "reject" : "drop" };
  const { proxyPort, metadataPort, interfaces } = settings;

  const redirect = metadata.flatMap(({ family, address }): Rule[] => {
    const verdict = redirection(settings, family);
    if (verdict === undefined) return [];
    const match = { family, to: address, tcpPort: metadataPort, verdict, why: "to the proxy" };
    return interfaces.map((from) => ({ from, ...match }));
  });

  const ports = portChains(settings, refuse);
  const input = ports.map(
    ({ name, port }): Rule => ({ tcpPort: port, verdict: { kind: "goto", chain: name }, why: "" }),
  );
  const forward: Rule[] = [];
  for (const { family, address } of metadata) {
    const proxy = settings.proxyAddress[family];
    if (proxy !== undefined) {
      const verdict: Verdict = { kind: "accept" };
      forward.push({
        family,
        to: proxy,
        sentTo: address,
        tcpPort: proxyPort,
        verdict,
        why: "redirected to the proxy",
      });
    }
  }
  const toRefusal: Verdict = { kind: "goto", chain: "refuse_containers" };
  for (const { family, address } of metadata) {
    // Both the packet's own destination and the connection's first one: an old connection, an untracked packet and
    // another tool's translation of the metadata address must all end here.
    for (const match of [{ to: address }, { sentTo: address }]) {
      input.push({ family, ...match, verdict: toRefusal, why: "" });
      if (settings.forwarded === "listed") forward.push({ family, ...match, verdict: toRefusal, why: "" });
      else forward.push({ family, ...match, verdict: refuse, why: "only the host itself may reach it" });
    }
  }

  if (settings.forwarded === "drop") {
    // A tunnel that ends on this host, or a route that goes wrong, could bring packets in the service's name to a container: an
    // answered one would stand in its socket table as a connection to the service.
    for (const { family, address } of metadata)
      forward.push({ family, source: address, verdict: { kind: "drop" }, why: "nobody is the service" });
  }

  const chains: Chain[] = [
    { name: "redirect_metadata", rules: redirect },
    { name: "guard_input", rules: input },
    { name: "guard_forward", rules: forward },
    ...masqueradeChain(settings),
    ...ports.map(({ name, rules }): Chain => ({ name, rules })),
    {
      name: "refuse_containers",
      rules: interfaces.map((from): Rule => ({ from, verdict: refuse, why: "not by way of the proxy" })),
    },
  ];
  if (hostUids !== undefined) {
    const toUsers: Verdict = { kind: "goto", chain: "host_users" };
    const output = metadata.map(
      ({ family, address }): Rule => ({ family, to: address, verdict: toUsers, why: "" }),
    );
    chains.push({ name: "guard_output", rules: output });
    const allowed = hostUids.map((uid): Rule => ({ uid, verdict: { kind: "accept" }, why: "HOST_ACCESS" }));
    // Only packets that have a socket: what the kernel sends by itself (a last ACK) carries nothing and belongs to nobody.
    const others: Rule = { uid: "any", verdict: refuse, why: "not in HOST_ACCESS" };
    chains.push({ name: "host_users", rules: [...allowed, others] });
  }
  const addresses = metadata.map(({ address }) => address);
  const action = settings.rejectInsteadOfDrop ? "prohibit" : "blackhole";
  return { chains, guarded: settings.forwarded === "drop" ? { addresses, action } : undefined };
}

/**
 * What the host masquerades keeps its source port where that is free. A connection from the port of `containerCredentials` to a container's
 * own would then stand in that container's socket table as one to that port of the host, as its client's do.
 */
function masqueradeChain({ credentialsPort, interfaces }: Settings): readonly Chain[] {
  if (credentialsPort === undefined) return [];
  const verdict: Verdict = { kind: "drop" };
  const rules = interfaces.map(
    (out): Rule => ({ out, masqueradedPort: credentialsPort, verdict, why: "not in the host's name" }),
  );
  return [{ name: "guard_masquerade", rules }];
}

type PortChain = Chain & { readonly port: number };

/** Who reaches the ports of ours. Of two services on one port the first counts, which is the one that refuses most. */
function portChains(settings: Settings, refuse: Verdict): readonly PortChain[] {
  const { interfaces, proxyPort, credentialsPort, metricsPort, metadataPort } = settings;
  const accept: Verdict = { kind: "accept" };
  // A drop even where containers get a reject: a port scan from outside learns nothing.
  const drop: Verdict = { kind: "drop" };
  const host: Rule = { from: "lo", verdict: accept, why: "the host itself" };
  const chains: PortChain[] = [];
  const add = (name: ChainName, port: number | undefined, rules: readonly Rule[]) => {
    if (port !== undefined && !chains.some((chain) => chain.port === port))
      chains.push({ name, port, rules });
  };

  const metadata = { ipv4: settings.metadataIpv4, ipv6: settings.metadataIpv6 };
  const families = (["ipv4", "ipv6"] as const).filter(
    (family) => redirection(settings, family) !== undefined,
  );
  add("proxy_port", proxyPort, [
    // Only what was redirected: the proxy can then tell a container's own connection, whose far end is the metadata
    // address in the container's socket table, from one that somebody else made to an address of the host.
    ...families.flatMap((family) =>
      interfaces.map(
        (from): Rule => ({
          family,
          from,
          sentTo: metadata[family],
          tcpPort: proxyPort,
          translated: metadataPort,
          verdict: accept,
          why: "a container asks",
        }),
      ),
    ),
    host,
    ...(refuse.kind === "drop"
      ? []
      : interfaces.map((from): Rule => ({ from, verdict: refuse, why: "only by the metadata address" }))),
    { verdict: drop, why: "nobody else reaches the proxy" },
  ]);
  add("credentials_port", credentialsPort, [
    // The other way round: there the far end in a container's socket table is this port itself.
    { translated: "from any port", verdict: drop, why: "only direct connections" },
    ...interfaces.map((from): Rule => ({ from, verdict: accept, why: "a container asks" })),
    host,
    { verdict: drop, why: "nobody else reaches the proxy" },
  ]);
  add("metrics_port", metricsPort, [host, { verdict: drop, why: "metrics are the host's" }]);
  return chains;
}

/** Undefined: this family has no way to the proxy, and its requests are refused. */
function redirection(settings: Settings, family: Family): Verdict | undefined {
  if (family === "ipv6" && settings.ipv6 === "off") return undefined;
  const { proxyAddress, proxyPort } = settings;
  if (proxyAddress.ipv4 === undefined && proxyAddress.ipv6 === undefined)
    return { kind: "redirect", port: proxyPort };
  const address = proxyAddress[family];
  return address === undefined ? undefined : { kind: "dnat", address, port: proxyPort };
}
