import type { Problem } from "../errors.ts";
import { parseValue } from "./setting-values.ts";

/** What firewall.conf and firewall.d say, every default filled in. */
export type Settings = {
  readonly backend: "auto" | "nftables" | "iptables";
  /** Interface names; a `*` at the end stands for any ending. */
  readonly interfaces: readonly string[];
  readonly metadataIpv4: string;
  /** In RFC 5952 form, as the kernel's tools print it. */
  readonly metadataIpv6: string;
  readonly metadataPort: number;
  readonly ipv6: "auto" | "off";
  readonly proxyPort: number;
  /** The port of `containerCredentials.listen` in config.json, where there is one. */
  readonly credentialsPort: number | undefined;
  /** The port of `metricsListen`, where it names no address; an address says by itself who reaches it. */
  readonly metricsPort: number | undefined;
  /** Neither: requests are redirected to the bridge's own address. */
  readonly proxyAddress: { readonly ipv4?: string; readonly ipv6?: string };
  readonly rejectInsteadOfDrop: boolean;
  /** Whose forwarded packets to the metadata addresses are refused: anybody's, or only those of `interfaces`. */
  readonly forwarded: "drop" | "listed";
  readonly hostAccess: HostAccess;
  /** Whether frames from containers that name the host as their source are refused, where the host can. */
  readonly layer2: "auto" | "off";
};

export type HostAccess =
  | { readonly kind: "all" }
  /** User names or numbers, not yet looked up; `where` is the line that names them. */
  | { readonly kind: "users"; readonly users: readonly string[]; readonly where: string };

/** The ports that config.json gives the services of the proxy. */
export type Ports = {
  readonly proxy: number;
  readonly credentials?: number | undefined;
  readonly metrics?: number | undefined;
};

/** One drop-in file. */
export type SettingsFile = { readonly path: string; readonly text: string };

/** The keys a drop-in may have, in the order in which the manual explains them. */
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

/** Docker's default and user-defined bridges, podman's (netavark, then CNI), and a swarm's. */
export const defaultInterfaces = ["docker0", "br-*", "podman*", "cni-podman*", "docker_gwbridge"] as const;

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

/**
 * The settings that the files give together, or everything that is wrong with them. A later file, and a later line,
 * overrides an earlier one; an empty value brings the default back.
 * @param ports those of config.json; PROXY_PORT overrules the proxy's
 * @param didYouMean a sentence that names the nearest of the candidates, or nothing
 */
export function parseSettings(
  files: readonly SettingsFile[],
  ports: Ports,
  didYouMean: (written: string, candidates: readonly string[]) => string,
): Settings | readonly Problem[] {
  const defaults = defaultSettings(ports);
  const problems: Problem[] = [];
  const patches = new Map<SettingKey, Partial<Settings>>();
  let proxyAddressAt = "";
  for (const { path, text } of files) {
    for (const [index, line] of text.split("\n").entries()) {
      const where = `${path}:${index + 1}`;
      const assignment = readLine(line);
      if (assignment === undefined) continue;
      if ("message" in assignment) {
        problems.push({ where, ...assignment });
        continue;
      }
      const key = settingKeys.find((known) => known === assignment.key);
      if (key === undefined) {
        problems.push({
          where,
          message: `there is no setting "${assignment.key}"`,
          hint: didYouMean(assignment.key, settingKeys) || `The settings are ${settingKeys.join(", ")}.`,
        });
        continue;
      }
      if (assignment.value === "") {
        patches.delete(key);
        continue;
      }
      if (key === "PROXY_ADDRESS") proxyAddressAt = where;
      const parsed = parseValue(key, assignment.value, where);
      if ("message" in parsed)
        problems.push({ where, message: `${key}: ${parsed.message}`, hint: parsed.hint });
      else patches.set(key, parsed.value);
    }
  }
  const settings: Settings = Object.assign({}, defaults, ...patches.values());
  for (const address of Object.values(settings.proxyAddress)) {
    if (address === settings.metadataIpv4 || address === settings.metadataIpv6) {
      const message = `PROXY_ADDRESS: ${address} is the metadata address itself`;
      problems.push({ where: proxyAddressAt, message, hint: "Write the address that the proxy listens on." });
    }
  }
  return problems.length > 0 ? problems : settings;
}

type Assignment = { readonly key: string; readonly value: string };

/** Undefined for a comment or an empty line. The form is that of os-release(5) and of systemd's EnvironmentFile=. */
function readLine(line: string): Assignment | Omit<Problem, "where"> | undefined {
  const text = line.trim();
  if (text === "" || text.startsWith("#")) return undefined;
  const [, key, rest = ""] = /^([A-Za-z_][A-Za-z0-9_]*)=(.*)$/.exec(text) ?? [];
  if (key === undefined) {
    return {
      message: `expected KEY=value, got "${text}"`,
      hint: 'No blanks around "="; a comment begins with "#".',
    };
  }
  const quoted = /^(["'])(.*?)\1\s*(?:#.*)?$/.exec(rest);
  if (quoted) return { key, value: (quoted[2] ?? "").trim() };
  if (/^["']/.test(rest)) return { message: `${key}: the quote is not closed: ${rest}`, hint: "" };
  return { key, value: rest.replace(/(^|\s)#.*$/, "").trim() };
}
