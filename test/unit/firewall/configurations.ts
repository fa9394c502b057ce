import { fileURLToPath } from "node:url";
import { parseSettings } from "../../../src/firewall/parse-settings.ts";
import { ruleset } from "../../../src/firewall/ruleset.ts";
import type { Ports } from "../../../src/firewall/settings.ts";

/** The golden files with the rendered rules: `NAME.nftables` and `NAME.iptables`. */
export const goldenDirectory = fileURLToPath(new URL("../../golden/firewall/", import.meta.url));

/** Configurations with golden files. `uids` are the users of HOST_ACCESS. */
export const configurations: readonly {
  readonly name: string;
  readonly text: string;
  readonly uids?: readonly number[];
  readonly ports?: Ports;
}[] = [
  { name: "default", text: "" },
  { name: "one-bridge", text: "INTERFACES=docker0" },
  { name: "other-ports", text: "PROXY_PORT=8181\nMETADATA_PORT=8080" },
  {
    name: "guarded-ports",
    text: "INTERFACES='docker0 br-*'",
    ports: { proxy: 18_000, credentials: 18_008, metrics: 18_009 },
  },
  { name: "other-metadata", text: "METADATA_IPV4=192.0.2.254\nMETADATA_IPV6=2001:db8::254" },
  { name: "proxy-address-ipv4", text: "INTERFACES=docker0\nPROXY_ADDRESS=10.0.0.1" },
  { name: "proxy-address-both", text: 'INTERFACES=docker0\nPROXY_ADDRESS="10.0.0.1 fd12::1"' },
  { name: "ipv6-off", text: "INTERFACES=docker0\nIPV6=off" },
  { name: "reject", text: "INTERFACES='docker0 br-*'\nREJECT_INSTEAD_OF_DROP=yes" },
  { name: "forwarded-listed", text: "INTERFACES='docker0 podman*'\nFORWARDED=listed" },
  { name: "host-access-root", text: "INTERFACES=docker0\nHOST_ACCESS=root", uids: [0, 998] },
  {
    name: "host-access-users-reject",
    text: "INTERFACES=docker0\nHOST_ACCESS='root deploy'\nREJECT_INSTEAD_OF_DROP=yes\nFORWARDED=listed",
    uids: [0, 998, 1001],
  },
];

/** The rules for the text of a settings file. @throws if it has problems */
export function rulesOf(text: string, uids?: readonly number[], ports: Ports = { proxy: 18_000 }) {
  const parsed = parseSettings([{ path: "firewall.conf", text }], ports, () => "");
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  return ruleset(parsed.settings, uids);
}
