/** The settings from firewall.conf and firewall.d, with defaults filled in. */
export type Settings = {
  readonly backend: "auto" | "nftables" | "iptables";
  /** Interface names; a trailing `*` matches any ending. */
  readonly interfaces: readonly string[];
  readonly metadataIpv4: string;
  /** In RFC 5952 form, as nft, ip6tables and ip print it. */
  readonly metadataIpv6: string;
  readonly metadataPort: number;
  readonly ipv6: "auto" | "off";
  readonly proxyPort: number;
  /** The port of `containerCredentials.listen` in config.json, if set. */
  readonly credentialsPort: number | undefined;
  /** The port of `metricsListen`, unless that names an address: the address then decides who can reach it. */
  readonly metricsPort: number | undefined;
  /** If empty, requests are redirected to the bridge's own address. */
  readonly proxyAddress: { readonly ipv4?: string; readonly ipv6?: string };
  readonly rejectInsteadOfDrop: boolean;
  /**
   * Which forwarded packets to the metadata addresses are refused: all (`drop`), or only those from
   * `interfaces` (`listed`).
   */
  readonly forwarded: "drop" | "listed";
  readonly hostAccess: HostAccess;
  /**
   * Whether to drop frames from containers that claim a source address of the host, on hosts that support it.
   */
  readonly layer2: "auto" | "off";
};

export type HostAccess =
  | { readonly kind: "all" }
  /** User names or uids, not looked up yet. `where` is the file and line of the setting. */
  | { readonly kind: "users"; readonly users: readonly string[]; readonly where: string };

/** The ports of the proxy's services, from config.json. */
export type Ports = {
  readonly proxy: number;
  readonly credentials?: number | undefined;
  readonly metrics?: number | undefined;
};

/** firewall.conf or one file of firewall.d. */
export type SettingsFile = { readonly path: string; readonly text: string };

/** The keys of firewall.conf, in the order of the man page. */
export const settingKeys = [
  "BACKEND",
  "INTERFACES",
  "PROXY_PORT",
  "PROXY_ADDRESS",
  "METADATA_IPV4",
  "METADATA_IPV6",
  "METADATA_PORT",
  "IPV6",
  "FORWARDED",
  "REJECT_INSTEAD_OF_DROP",
  "HOST_ACCESS",
  "LAYER2",
] as const;

export type SettingKey = (typeof settingKeys)[number];

/** Docker's default and user-defined bridges, Podman's (netavark, then CNI), and Docker Swarm's. */
const defaultInterfaces = ["docker0", "br-*", "podman*", "cni-podman*", "docker_gwbridge"] as const;

export function defaultSettings(ports: Ports): Settings {
  return {
    backend: "auto",
    interfaces: defaultInterfaces,
    metadataIpv4: "169.254.169.254",
    metadataIpv6: "fd00:ec2::254",
    metadataPort: 80,
    ipv6: "auto",
    proxyPort: ports.proxy,
    credentialsPort: ports.credentials,
    metricsPort: ports.metrics,
    proxyAddress: {},
    rejectInsteadOfDrop: false,
    forwarded: "drop",
    hostAccess: { kind: "all" },
    layer2: "auto",
  };
}
