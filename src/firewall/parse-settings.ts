import { isIP } from "node:net";
import { canonicalAddress } from "../config/address.ts";
import type { Problem } from "../errors.ts";
import { hasNameCharacters, interfaceNameLimit } from "./interface-name.ts";
import {
  defaultSettings,
  type Ports,
  type SettingKey,
  type Settings,
  type SettingsFile,
  settingKeys,
} from "./settings.ts";

export type ParsedSettings =
  | { readonly ok: true; readonly settings: Settings }
  | { readonly ok: false; readonly problems: readonly Problem[] };

/**
 * Parses the settings files into one set of settings, or returns every problem in them. A later file, and a
 * later line, overrides an earlier one. An empty value restores the default.
 * @param ports the ports in config.json; PROXY_PORT overrides the proxy's
 * @param didYouMean returns a sentence that suggests the nearest candidate, or an empty string
 */
export function parseSettings(
  files: readonly SettingsFile[],
  ports: Ports,
  didYouMean: (written: string, candidates: readonly string[]) => string,
): ParsedSettings {
  const problems: Problem[] = [];
  const patches = new Map<SettingKey, Partial<Settings>>();
  let proxyAddressAt = "";
  for (const { path, text } of files) {
    for (const [index, line] of text.split("\n").entries()) {
      const where = `${path}:${index + 1}`;
      if (isBlankOrComment(line)) continue;
      const assignment = parseAssignment(line.trim());
      if (!assignment.ok) {
        problems.push({ where, message: assignment.message, hint: assignment.hint });
        continue;
      }
      const { key: name, value } = assignment.value;
      const key = settingKeys.find((known) => known === name);
      if (key === undefined) {
        problems.push({
          where,
          message: `unknown setting "${name}"`,
          hint: didYouMean(name, settingKeys) || `The settings are ${settingKeys.join(", ")}.`,
        });
        continue;
      }
      if (value === "") {
        patches.delete(key);
        continue;
      }
      if (key === "PROXY_ADDRESS") proxyAddressAt = where;
      const parsed = parseValue(key, value, where);
      if (parsed.ok) patches.set(key, parsed.value);
      else problems.push({ where, message: `${key}: ${parsed.message}`, hint: parsed.hint });
    }
  }
  const settings: Settings = Object.assign({}, defaultSettings(ports), ...patches.values());
  for (const address of Object.values(settings.proxyAddress)) {
    if (address === settings.metadataIpv4 || address === settings.metadataIpv6) {
      const message = `PROXY_ADDRESS: ${address} is the metadata address itself`;
      problems.push({ where: proxyAddressAt, message, hint: "Write the address that the proxy listens on." });
    }
  }
  return problems.length > 0 ? { ok: false, problems } : { ok: true, settings };
}

function isBlankOrComment(line: string): boolean {
  return /^\s*(#|$)/.test(line);
}

/** What a line or a value means, or what is wrong with it. */
type Parsed<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly message: string; readonly hint: string };

function valid<T>(value: T): Parsed<T> {
  return { ok: true, value };
}

function invalid(message: string, hint = ""): Parsed<never> {
  return { ok: false, message, hint };
}

/** The syntax is that of os-release(5) and of systemd's EnvironmentFile=. */
function parseAssignment(text: string): Parsed<{ readonly key: string; readonly value: string }> {
  const [, key, rest = ""] = /^([A-Za-z_][A-Za-z0-9_]*)=(.*)$/.exec(text) ?? [];
  if (key === undefined)
    return invalid(`expected KEY=value, got "${text}"`, 'No spaces around "="; a comment starts with "#".');
  const quoted = /^(["'])(.*?)\1\s*(?:#.*)?$/.exec(rest);
  if (quoted) return valid({ key, value: (quoted[2] ?? "").trim() });
  if (/^["']/.test(rest)) return invalid(`${key}: the quote is not closed: ${rest}`);
  return valid({ key, value: rest.replace(/(^|\s)#.*$/, "").trim() });
}

/** @param where file and line, for a value that can only be checked later */
function parseValue(key: SettingKey, value: string, where: string): Parsed<Partial<Settings>> {
  switch (key) {
    case "BACKEND":
      if (value === "auto" || value === "nftables" || value === "iptables") return valid({ backend: value });
      return invalid(`expected auto, nftables or iptables, got "${value}"`);
    case "IPV6":
      if (value === "auto" || value === "off") return valid({ ipv6: value });
      return invalid(`expected auto or off, got "${value}"`);
    case "LAYER2":
      if (value === "auto" || value === "off") return valid({ layer2: value });
      return invalid(`expected auto or off, got "${value}"`);
    case "FORWARDED":
      if (value === "drop" || value === "listed") return valid({ forwarded: value });
      return invalid(`expected drop or listed, got "${value}"`);
    case "INTERFACES":
      return parseInterfaces(value);
    case "PROXY_PORT":
      return map(parsePort(value), (proxyPort) => ({ proxyPort }));
    case "METADATA_PORT":
      return map(parsePort(value), (metadataPort) => ({ metadataPort }));
    case "REJECT_INSTEAD_OF_DROP":
      return map(parseYesOrNo(value), (rejectInsteadOfDrop) => ({ rejectInsteadOfDrop }));
    case "METADATA_IPV4":
      if (isIP(value) === 4) return valid({ metadataIpv4: value });
      return invalid(`expected an IPv4 address, got "${value}"`, "EC2 uses 169.254.169.254.");
    case "METADATA_IPV6": {
      const address = parseIp(value);
      if (address?.family === "ipv6") return valid({ metadataIpv6: address.text });
      if (address !== undefined && value.includes(":"))
        return invalid(`${value} is the IPv4 address ${address.text}`, "EC2 uses fd00:ec2::254.");
      return invalid(`expected an IPv6 address, got "${value}"`, "EC2 uses fd00:ec2::254.");
    }
    case "PROXY_ADDRESS":
      return parseProxyAddress(value);
    case "HOST_ACCESS":
      return parseHostAccess(value, where);
  }
}

function map<A, B>(result: Parsed<A>, into: (value: A) => B): Parsed<B> {
  return result.ok ? valid(into(result.value)) : result;
}

/** Split at blanks and commas. */
function words(value: string): readonly string[] {
  return value.split(/[\s,]+/).filter((word) => word !== "");
}

function parsePort(value: string): Parsed<number> {
  const port = /^\d{1,5}$/.test(value) ? Number(value) : 0;
  return port >= 1 && port <= 65_535
    ? valid(port)
    : invalid(`expected a port from 1 to 65535, got "${value}"`);
}

function parseYesOrNo(value: string): Parsed<boolean> {
  if (/^(yes|true|on|1)$/i.test(value)) return valid(true);
  if (/^(no|false|off|0)$/i.test(value)) return valid(false);
  return invalid(`expected yes or no, got "${value}"`);
}

/**
 * In the form in which nft, ip6tables and ip print it. Undefined for an address with a zone, which no rule
 * can match.
 */
function parseIp(value: string): { readonly family: "ipv4" | "ipv6"; readonly text: string } | undefined {
  const text = value.includes("%") ? undefined : canonicalAddress(value);
  return text === undefined ? undefined : { family: isIP(text) === 4 ? "ipv4" : "ipv6", text };
}

function parseInterfaces(value: string): Parsed<Partial<Settings>> {
  const interfaces = new Set<string>();
  const messages: string[] = [];
  let hint = "";
  for (const word of words(value)) {
    const pattern = parseInterfacePattern(word);
    if (pattern.ok) interfaces.add(pattern.value);
    else {
      messages.push(pattern.message);
      hint ||= pattern.hint;
    }
  }
  return messages.length > 0 ? invalid(messages.join("; "), hint) : valid({ interfaces: [...interfaces] });
}

/** An interface name, or the start of one followed by `*`. */
function parseInterfacePattern(word: string): Parsed<string> {
  const name = word.endsWith("*") ? word.slice(0, -1) : word;
  if (name === "") {
    return invalid(
      `"${word}" would match every interface of the host`,
      "Name the bridges: docker0 br-* podman*.",
    );
  }
  if (name.includes("*")) return invalid(`"${word}" has a "*" that is not at its end`);
  if (name === "lo") return invalid('"lo" is the host itself', "List only the bridges of containers.");
  if (!hasNameCharacters(name)) return invalid(`"${word}" is not an interface name`);
  if (name.length > interfaceNameLimit) {
    return invalid(
      `"${word}" has ${name.length} characters; an interface name has at most ${interfaceNameLimit}`,
    );
  }
  return valid(word);
}

function parseProxyAddress(value: string): Parsed<Partial<Settings>> {
  const proxyAddress: { ipv4?: string; ipv6?: string } = {};
  for (const word of words(value)) {
    const address = parseIp(word);
    if (address === undefined)
      return invalid(`expected an IPv4 address, an IPv6 address or one of each, got "${word}"`);
    const { family, text } = address;
    if (proxyAddress[family] !== undefined)
      return invalid(
        `expected at most one address of each family, got "${value}"${text === word ? "" : `; ${word} is ${text}`}`,
      );
    // The kernel drops packets from a bridge to a loopback address, so every request would time out.
    if (text.startsWith("127.") || text === "::1") {
      return invalid(
        `${text} cannot be reached from a bridge`,
        "Write an address of another interface, or none.",
      );
    }
    if (text === "0.0.0.0" || text === "::") {
      return invalid(
        `requests cannot be sent to ${text}`,
        "Leave PROXY_ADDRESS out: requests then go to the bridge's own address.",
      );
    }
    proxyAddress[family] = text;
  }
  return valid({ proxyAddress });
}

function parseHostAccess(value: string, where: string): Parsed<Partial<Settings>> {
  if (value === "all") return valid({ hostAccess: { kind: "all" } });
  const users = words(value);
  const bad = users.find((user) => !/^([a-z_][a-z0-9_.-]*\$?|\d{1,10})$/i.test(user) || user === "all");
  if (bad !== undefined) return invalid(`expected all, root or user names, got "${bad}"`);
  return valid({ hostAccess: { kind: "users", users, where } });
}
