import type { Guard } from "./route-guard.ts";
import type { Settings } from "./settings.ts";

export type Family = "ipv4" | "ipv6";

/** The chains, by purpose. The first five are base chains on a netfilter hook; they go to the others. */
export type ChainName =
  | "redirect_metadata"
  | "guard_input"
  | "guard_forward"
  | "guard_masquerade"
  | "guard_output"
  | "proxy_port"
  | "credentials_port"
  | "metrics_port"
  | "refuse_containers"
  | "host_users";

export type Verdict =
  | { readonly kind: "accept" | "drop" | "reject" }
  /** To the address of the incoming interface. */
  | { readonly kind: "redirect"; readonly port: number }
  | { readonly kind: "dnat"; readonly address: string; readonly port: number }
  | { readonly kind: "goto"; readonly chain: ChainName };

/** Every field that is set must match. Without a family, a rule applies to both. */
export type Rule = {
  readonly family?: Family;
  /** Incoming interface: a name, or a prefix followed by `*`. */
  readonly inInterface?: string;
  /** Outgoing interface, likewise. */
  readonly outInterface?: string;
  /** Source address of the packet. */
  readonly source?: string;
  /** Destination address of the packet. */
  readonly destination?: string;
  /** Original destination of the connection, before NAT. Matches only packets in the original direction. */
  readonly originalDestination?: string;
  readonly tcpPort?: number;
  /**
   * Source port. Matches only packets in the original direction and, if the filter can tell, only after
   * source NAT.
   */
  readonly masqueradedPort?: number;
  /** Only connections with destination NAT; a number is their original destination port. */
  readonly dnatFromPort?: number | "any";
  /** Uid of the sending socket; `any` matches every packet that has a socket. */
  readonly uid?: number | "any";
  readonly verdict: Verdict;
  /** The comment on the rule; empty for a plain goto. */
  readonly comment: string;
};

export type Chain = { readonly name: ChainName; readonly rules: readonly Rule[] };

/** The rules for the host, independent of the backend. */
export type Ruleset = {
  readonly chains: readonly Chain[];
  /** The routing rules; undefined if the settings want none. */
  readonly guarded: Guard | undefined;
};

/**
 * The rules for these settings; pure.
 * @param hostUids the users on the host that may reach the metadata service; undefined means all
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
    const match = { family, destination: address, tcpPort: metadataPort, verdict, comment: "to the proxy" };
    return interfaces.map((inInterface) => ({ inInterface, ...match }));
  });

  const ports = portChains(settings, refuse);
  const input = ports.map(
    ({ name, port }): Rule => ({ tcpPort: port, verdict: { kind: "goto", chain: name }, comment: "" }),
  );
  const forward: Rule[] = [];
  for (const { family, address } of metadata) {
    const proxy = settings.proxyAddress[family];
    if (proxy !== undefined) {
      const verdict: Verdict = { kind: "accept" };
      forward.push({
        family,
        destination: proxy,
        originalDestination: address,
        tcpPort: proxyPort,
        verdict,
        comment: "redirected to the proxy",
      });
    }
  }
  const toRefusal: Verdict = { kind: "goto", chain: "refuse_containers" };
  for (const { family, address } of metadata) {
    // Match both the packet's destination and the connection's original one, to catch connections from before
    // the rules, untracked packets, and NAT of the metadata address by another tool.
    for (const match of [{ destination: address }, { originalDestination: address }]) {
      input.push({ family, ...match, verdict: toRefusal, comment: "" });
      if (settings.forwarded === "listed")
        forward.push({ family, ...match, verdict: toRefusal, comment: "" });
      else forward.push({ family, ...match, verdict: refuse, comment: "only the host itself may reach it" });
    }
  }

  if (settings.forwarded === "drop") {
    // A tunnel that ends on this host, or a wrong route, could deliver packets with the service's source
    // address to a container. If the container answers one, its socket table shows a connection to the
    // service.
    for (const { family, address } of metadata)
      forward.push({ family, source: address, verdict: { kind: "drop" }, comment: "nobody is the service" });
  }

  const chains: Chain[] = [
    { name: "redirect_metadata", rules: redirect },
    { name: "guard_input", rules: input },
    { name: "guard_forward", rules: forward },
    ...masqueradeChain(settings),
    ...ports.map(({ name, rules }): Chain => ({ name, rules })),
    {
      name: "refuse_containers",
      rules: interfaces.map(
        (inInterface): Rule => ({ inInterface, verdict: refuse, comment: "not by way of the proxy" }),
      ),
    },
  ];
  if (hostUids !== undefined) {
    const toUsers: Verdict = { kind: "goto", chain: "host_users" };
    const output = metadata.map(
      ({ family, address }): Rule => ({ family, destination: address, verdict: toUsers, comment: "" }),
    );
    chains.push({ name: "guard_output", rules: output });
    const allowed = hostUids.map(
      (uid): Rule => ({ uid, verdict: { kind: "accept" }, comment: "HOST_ACCESS" }),
    );
    // Only packets with a socket: those that the kernel sends itself (a final ACK) carry no data and have no
    // owner.
    const others: Rule = { uid: "any", verdict: refuse, comment: "not in HOST_ACCESS" };
    chains.push({ name: "host_users", rules: [...allowed, others] });
  }
  const addresses = metadata.map(({ address }) => address);
  const action = settings.rejectInsteadOfDrop ? "prohibit" : "blackhole";
  return { chains, guarded: settings.forwarded === "drop" ? { addresses, action } : undefined };
}

/**
 * Masquerading keeps the source port if it is free. So a masqueraded connection to a container, sent from the
 * port number of `containerCredentials`, would look in that container's socket table like the container's own
 * connection to that port of the host.
 */
function masqueradeChain({ credentialsPort, interfaces }: Settings): readonly Chain[] {
  if (credentialsPort === undefined) return [];
  const verdict: Verdict = { kind: "drop" };
  const rules = interfaces.map(
    (outInterface): Rule => ({
      outInterface,
      masqueradedPort: credentialsPort,
      verdict,
      comment: "not in the host's name",
    }),
  );
  return [{ name: "guard_masquerade", rules }];
}

type PortChain = Chain & { readonly port: number };

/**
 * Who may reach our ports. If two services share a port, the rules of the first apply; it is the strictest.
 */
function portChains(settings: Settings, refuse: Verdict): readonly PortChain[] {
  const { interfaces, proxyPort, credentialsPort, metricsPort, metadataPort } = settings;
  const accept: Verdict = { kind: "accept" };
  // Drop, even if containers get a reject: a port scan from outside learns nothing.
  const drop: Verdict = { kind: "drop" };
  const host: Rule = { inInterface: "lo", verdict: accept, comment: "the host itself" };
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
    // Only redirected connections. In the container's socket table these have the metadata address as their
    // remote end, so the proxy can tell them from a connection that someone else made to an address of the
    // host.
    ...families.flatMap((family) =>
      interfaces.map(
        (inInterface): Rule => ({
          family,
          inInterface,
          originalDestination: metadata[family],
          tcpPort: proxyPort,
          dnatFromPort: metadataPort,
          verdict: accept,
          comment: "a container asks",
        }),
      ),
    ),
    host,
    ...(refuse.kind === "drop"
      ? []
      : interfaces.map(
          (inInterface): Rule => ({ inInterface, verdict: refuse, comment: "only by the metadata address" }),
        )),
    { verdict: drop, comment: "nobody else reaches the proxy" },
  ]);
  add("credentials_port", credentialsPort, [
    // Only direct connections: there the remote end in the container's socket table is this port itself.
    { dnatFromPort: "any", verdict: drop, comment: "only direct connections" },
    ...interfaces.map((inInterface): Rule => ({ inInterface, verdict: accept, comment: "a container asks" })),
    host,
    { verdict: drop, comment: "nobody else reaches the proxy" },
  ]);
  add("metrics_port", metricsPort, [host, { verdict: drop, comment: "metrics are the host's" }]);
  return chains;
}

/** Undefined if this family is not redirected; its requests are then refused. */
function redirection(settings: Settings, family: Family): Verdict | undefined {
  if (family === "ipv6" && settings.ipv6 === "off") return undefined;
  const { proxyAddress, proxyPort } = settings;
  if (proxyAddress.ipv4 === undefined && proxyAddress.ipv6 === undefined)
    return { kind: "redirect", port: proxyPort };
  const address = proxyAddress[family];
  return address === undefined ? undefined : { kind: "dnat", address, port: proxyPort };
}
