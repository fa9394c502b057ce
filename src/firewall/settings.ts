import { isIP } from "node:net";
import type { Problem } from "../errors.ts";
import { canonicalIpv6, interfacePattern, type Parsed, portNumber, words, wrong, yesOrNo } from "./values.ts";

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
  /** Neither: requests are redirected to the bridge's own address. */
  readonly proxyAddress: { readonly ipv4?: string; readonly ipv6?: string };
  readonly rejectInsteadOfDrop: boolean;
  /** Whose forwarded packets to the metadata addresses are refused: anybody's, or only those of `interfaces`. */
  readonly forwarded: "drop" | "listed";
  readonly hostAccess: HostAccess;
};

export type HostAccess =
  | { readonly kind: "all" }
  /** User names or numbers, not yet looked up; `where` is the line that names them. */
  | { readonly kind: "users"; readonly users: readonly string[]; readonly where: string };

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
] as const;

export type SettingKey = (typeof settingKeys)[number];

/** Docker's default and user-defined bridges, podman's (netavark, then CNI), and a swarm's. */
export const defaultInterfaces = ["docker0", "br-*", "podman*", "cni-podman*", "docker_gwbridge"] as const;

export function defaultSettings(proxyPort: number): Settings {
  return {
    backend: "auto",
    interfaces: defaultInterfaces,
    metadataIpv4: "169.254.169.254",
    metadataIpv6: "fd00:ec2::254",
    metadataPort: 80,
    ipv6: "auto",
    proxyPort,
    proxyAddress: {},
    rejectInsteadOfDrop: false,
    forwarded: "drop",
    hostAccess: { kind: "all" },
  };
}

/**
 * The settings that the files give together, or everything that is wrong with them. A later file, and a later line,
 * overrides an earlier one; an empty value brings the default back.
 * @param proxyPort the default of PROXY_PORT
 * @param didYouMean a sentence that names the nearest of the candidates, or nothing
 */
export function parseSettings(
  files: readonly SettingsFile[],
  proxyPort: number,
  didYouMean: (written: string, candidates: readonly string[]) => string,
): Settings | readonly Problem[] {
  const defaults = defaultSettings(proxyPort);
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

function parseValue(key: SettingKey, value: string, where: string): Parsed<Partial<Settings>> {
  switch (key) {
    case "BACKEND":
      if (value === "auto" || value === "nftables" || value === "iptables")
        return { value: { backend: value } };
      return wrong(`expected auto, nftables or iptables, got "${value}"`);
    case "IPV6":
      if (value === "auto" || value === "off") return { value: { ipv6: value } };
      return wrong(`expected auto or off, got "${value}"`);
    case "FORWARDED":
      if (value === "drop" || value === "listed") return { value: { forwarded: value } };
      return wrong(`expected drop or listed, got "${value}"`);
    case "INTERFACES":
      return parseInterfaces(value);
    case "PROXY_PORT":
      return lift(portNumber(value), (proxyPort) => ({ proxyPort }));
    case "METADATA_PORT":
      return lift(portNumber(value), (metadataPort) => ({ metadataPort }));
    case "REJECT_INSTEAD_OF_DROP":
      return lift(yesOrNo(value), (rejectInsteadOfDrop) => ({ rejectInsteadOfDrop }));
    case "METADATA_IPV4":
      if (isIP(value) === 4) return { value: { metadataIpv4: value } };
      return wrong(`expected an IPv4 address, got "${value}"`, "EC2's is 169.254.169.254.");
    case "METADATA_IPV6":
      if (isIP(value) === 6) return { value: { metadataIpv6: canonicalIpv6(value) } };
      return wrong(`expected an IPv6 address, got "${value}"`, "EC2's is fd00:ec2::254.");
    case "PROXY_ADDRESS":
      return parseProxyAddress(value);
    case "HOST_ACCESS":
      return parseHostAccess(value, where);
  }
}

function parseInterfaces(value: string): Parsed<Partial<Settings>> {
  const interfaces: string[] = [];
  const wrongs: string[] = [];
  let hint = "";
  for (const word of words(value)) {
    const parsed = interfacePattern(word);
    if ("value" in parsed) interfaces.push(parsed.value);
    else {
      wrongs.push(parsed.message);
      hint ||= parsed.hint;
    }
  }
  return wrongs.length > 0
    ? wrong(wrongs.join("; "), hint)
    : { value: { interfaces: [...new Set(interfaces)] } };
}

function parseProxyAddress(value: string): Parsed<Partial<Settings>> {
  const proxyAddress: { ipv4?: string; ipv6?: string } = {};
  for (const word of words(value)) {
    const version = isIP(word);
    if (version === 0)
      return wrong(`expected an IPv4 address, an IPv6 address or one of each, got "${word}"`);
    const family = version === 4 ? "ipv4" : "ipv6";
    if (proxyAddress[family] !== undefined)
      return wrong(`there are two addresses of one family in "${value}"`);
    const address = version === 4 ? word : canonicalIpv6(word);
    // The kernel drops what comes in from a bridge for a loopback address, so every request would time out.
    if (address.startsWith("127.") || address === "::1") {
      return wrong(
        `${address} cannot be reached from a bridge`,
        "Write an address of another interface, or none.",
      );
    }
    if (address === "0.0.0.0" || address === "::") {
      return wrong(
        `${address} is no address to send to`,
        "Leave it out: requests then go to the bridge's own.",
      );
    }
    proxyAddress[family] = address;
  }
  return { value: { proxyAddress } };
}

function parseHostAccess(value: string, where: string): Parsed<Partial<Settings>> {
  if (value === "all") return { value: { hostAccess: { kind: "all" } } };
  const users = words(value);
  const bad = users.find((user) => !/^([a-z_][a-z0-9_.-]*\$?|\d{1,10})$/i.test(user) || user === "all");
  if (bad !== undefined) return wrong(`expected all, root or names of users, got "${bad}"`);
  return { value: { hostAccess: { kind: "users", users, where } } };
}

function lift<A, B>(parsed: Parsed<A>, into: (value: A) => B): Parsed<B> {
  return "value" in parsed ? { value: into(parsed.value) } : parsed;
}
