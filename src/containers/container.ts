/** A setting that gives a container more access to the host than others have. A role policy may refuse it. */
export type Risk =
  | "privileged"
  | "docker-socket"
  | "host-network"
  | "host-pid"
  | "net-admin"
  | "net-raw-added";

/** A container's attachment to one network. Addresses are in canonical form (`canonicalAddress`). */
export type Attachment = {
  /** The network's name, e.g. `bridge` or `app_default`. */
  readonly network: string;
  readonly ipv4: string | undefined;
  readonly ipv6: string | undefined;
  /**
   * The hardware address that the engine gave to the container's interface: six bytes in lower-case hex,
   * separated by colons. Undefined if the engine does not name one (not started yet, ipvlan, static).
   */
  readonly mac: string | undefined;
};

/**
 * What the proxy knows about a running container, from an engine's inspect answer or from `staticContainers`.
 */
export type Container = {
  /** 64 hex digits, or for a static container `static:` and its address. */
  readonly id: string;
  /** Without the engine's leading slash. */
  readonly name: string;
  /** The image as given at creation: `registry/name:tag`, `name@sha256:…`. Empty for a static container. */
  readonly image: string;
  /** The image's `sha256:…`, or empty. */
  readonly imageId: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Only the two variables that request a role. The others may hold secrets and are not kept. */
  readonly env: { readonly IAM_ROLE?: string; readonly IAM_POLICY?: string };
  /** `Config.User` as written: empty, a name, `uid`, or `uid:gid`. */
  readonly user: string;
  readonly attachments: readonly Attachment[];
  /** The first process, in the host's pid namespace; 0 if there is none (static, remote, starting). */
  readonly pid: number;
  /**
   * When that process started: field 22 of /proc/<pid>/stat, in clock ticks since boot, read when the engine
   * reported the pid. Together with the pid it identifies a process, so a reused pid is never the container.
   */
  readonly pidStartedAt?: number;
  readonly risks: readonly Risk[];
  /** Id of the container in whose network namespace it runs: it has no address of its own. */
  readonly networkOf?: string;
  readonly source: "engine" | "static";
  /** The alias that the configuration gives a static container. */
  readonly staticAlias?: string;
};

/** Announced by its engine: it has an address, but its first process is not known yet. */
export function isStarting(container: Container): boolean {
  return container.source === "engine" && container.pid === 0;
}

/** A container's addresses without duplicates. */
export function addressesOf(container: Container): string[] {
  const addresses = new Set<string>();
  for (const { ipv4, ipv6 } of container.attachments) {
    if (ipv4 !== undefined) addresses.add(ipv4);
    if (ipv6 !== undefined) addresses.add(ipv6);
  }
  return [...addresses];
}

/** A container from `staticContainers`, at a canonical address. It has no process to check. */
export function staticContainer(address: string, declared: { name: string; alias?: string }): Container {
  const isIpv6 = address.includes(":");
  return {
    id: `static:${address}`,
    name: declared.name,
    image: "",
    imageId: "",
    labels: {},
    env: {},
    user: "",
    attachments: [
      {
        network: "static",
        ipv4: isIpv6 ? undefined : address,
        ipv6: isIpv6 ? address : undefined,
        mac: undefined,
      },
    ],
    pid: 0,
    risks: [],
    source: "static",
    ...(declared.alias === undefined ? {} : { staticAlias: declared.alias }),
  };
}
