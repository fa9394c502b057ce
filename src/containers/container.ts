import { canonicalAddress } from "../config/address.ts";

/** A thing about a container that gives it more of the host than others have; a role policy may refuse it. */
export type Risk =
  | "privileged"
  | "docker-socket"
  | "host-network"
  | "host-pid"
  | "net-admin"
  | "net-raw-added";

/** One attachment to a network. Addresses are in canonical text form (IPv6 per RFC 5952, no zone, no prefix length). */
export type Attachment = {
  /** The network's name, e.g. `bridge` or `app_default`. */
  readonly network: string;
  readonly ipv4: string | undefined;
  readonly ipv6: string | undefined;
};

/** What the proxy knows of a running container. Made from an engine's inspect answer, or from `staticContainers`. */
export type Container = {
  /** 64 hex digits; for a static container `static:` and its address. */
  readonly id: string;
  /** Without the engine's leading slash. */
  readonly name: string;
  /** The image as it was named at creation: `registry/name:tag`, `name@sha256:…`. Empty for a static container. */
  readonly image: string;
  /** `sha256:…` of the image; empty where there is none. */
  readonly imageId: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Only the two variables that ask for a role are kept; a container's other variables are none of our business. */
  readonly env: { readonly IAM_ROLE?: string; readonly IAM_POLICY?: string };
  /** `Config.User`, as written: empty, a name, `uid`, or `uid:gid`. */
  readonly user: string;
  readonly attachments: readonly Attachment[];
  /** The container's first process in the host's pid namespace; 0 where there is none (static, remote engine, not started yet). */
  readonly pid: number;
  /**
   * When that process started: field 22 of /proc/<pid>/stat, in clock ticks since boot, read when the engine named the pid.
   * Pid and start time together name a process for good, so a pid that was handed out again is not taken for the container.
   */
  readonly pidStartedAt?: number;
  readonly risks: readonly Risk[];
  readonly source: "engine" | "static";
  /** Only for a static container: the alias that the configuration gives it. */
  readonly staticAlias?: string;
};

/** Announced by its engine (it has an address), but its first process is not known yet. */
export function isStarting(container: Container): boolean {
  return container.source === "engine" && container.pid === 0;
}

/** Every address of a container, each once. */
export function addressesOf(container: Container): string[] {
  const addresses = new Set<string>();
  for (const { ipv4, ipv6 } of container.attachments) {
    if (ipv4 !== undefined) addresses.add(ipv4);
    if (ipv6 !== undefined) addresses.add(ipv6);
  }
  return [...addresses];
}

/** The canonical form of an address as an engine writes it: maybe empty, maybe with a prefix length. */
export function engineAddress(text: unknown): string | undefined {
  if (typeof text !== "string" || text === "") return undefined;
  const address = canonicalAddress(text.split("/", 1)[0] ?? "");
  // Engines write 0.0.0.0 or :: for "none yet".
  return address === "0.0.0.0" || address === "::" ? undefined : address;
}
