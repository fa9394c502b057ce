import { isIP } from "node:net";
import type { SettingKey, Settings } from "./settings.ts";
import { canonicalIpv6, interfacePattern, type Parsed, portNumber, words, wrong, yesOrNo } from "./values.ts";

/**
 * What one assignment means for the settings.
 * @param where file and line, for what can only be judged later
 */
export function parseValue(key: SettingKey, value: string, where: string): Parsed<Partial<Settings>> {
  switch (key) {
    case "BACKEND":
      if (value === "auto" || value === "nftables" || value === "iptables")
        return { value: { backend: value } };
      return wrong(`expected auto, nftables or iptables, got "${value}"`);
    case "IPV6":
      if (value === "auto" || value === "off") return { value: { ipv6: value } };
      return wrong(`expected auto or off, got "${value}"`);
    case "LAYER2":
      if (value === "auto" || value === "off") return { value: { layer2: value } };
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
