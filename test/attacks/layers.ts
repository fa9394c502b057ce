import { node, repository } from "../support/host/host.ts";
import { config, type Scene } from "./scene.ts";

/** The layers of "who is asking" that are in force: SECURITY.md. */
export type Layer = "redirected" | "host" | "proof";

export const layers = {
  redirected:
    "only redirected connections reach the proxy's port (table inet ec2metaproxy, chain proxy_port)",
  host: "nobody on a bridge speaks as the host (table bridge ec2metaproxy)",
  proof: "the caller's socket is the container's own, and its port does not listen (identityProof)",
} as const satisfies Record<Layer, string>;

export type Column = {
  readonly name: string;
  readonly on: readonly Layer[];
  /** Default: the one that the product chooses, nftables. */
  readonly backend?: "iptables";
};

/** As a host has them. */
export const allLayers: Column = { name: "all", on: ["redirected", "host", "proof"] };

/** The columns of the table: what is in force. */
export const columns: readonly Column[] = [
  { name: "none", on: [] },
  allLayers,
  { name: "all, iptables", on: ["redirected", "host", "proof"], backend: "iptables" },
  { name: "-redirected", on: ["host", "proof"] },
  { name: "-host", on: ["redirected", "proof"] },
  { name: "-proof", on: ["redirected", "host"] },
];

/** The firewall learns from the installed configuration which ports there are to guard. */
export const configPath = "/etc/ec2metaproxy/config.json";

/** As in release 1.0.0: whoever is on a bridge reaches the ports. */
const openPorts = `for chain in proxy_port credentials_port; do
  nft flush chain inet ec2metaproxy $chain && nft add rule inet ec2metaproxy $chain accept || exit
done`;

/** Takes layers away as no operator can: the rules by hand, below the product. */
export async function setLayers({ host, proxy }: Scene, { on, backend }: Column): Promise<void> {
  const settings = config(on.includes("proof") ? "socket" : "off");
  await host.write(configPath, JSON.stringify(settings));
  await host.write("/etc/ec2metaproxy/firewall.d/50-test.conf", `BACKEND=${backend ?? "nftables"}\n`);
  const firewall = (action: string) => [node, `${repository}/src/main.ts`, "firewall", action];
  await host.exec(firewall("remove"));
  // A host without nft has ebtables for the frames.
  if (backend === "iptables") await host.exec("mv /usr/sbin/nft /usr/sbin/nft.away");
  try {
    await host.exec(firewall("apply"));
  } finally {
    if (backend === "iptables") await host.exec("mv /usr/sbin/nft.away /usr/sbin/nft");
  }
  if (!on.includes("redirected")) await host.exec(openPorts);
  if (!on.includes("host")) await host.exec("nft delete table bridge ec2metaproxy");
  await proxy.writeConfig(settings);
  await proxy.restart();
}
