import { node, repository } from "../support/host/host.ts";
import { config, type Scene } from "./scene.ts";

/** The layers that protect the identity of a caller: see SECURITY.md. */
export type Layer = "redirected" | "host" | "proof";

export const layers = {
  redirected:
    "only redirected connections reach the proxy's port (table inet ec2metaproxy, chain proxy_port)",
  host: "no container can send as the host (table bridge ec2metaproxy)",
  proof: "the caller's socket belongs to the container, and its port is not listening (identityProof)",
} as const satisfies Record<Layer, string>;

export type Column = {
  readonly name: string;
  readonly on: readonly Layer[];
  /** Default: nftables, as the product chooses. */
  readonly backend?: "iptables";
};

/** As installed. */
export const allLayers: Column = { name: "all", on: ["redirected", "host", "proof"] };

/** The columns of the table: the layers in force. */
export const columns: readonly Column[] = [
  { name: "none", on: [] },
  allLayers,
  { name: "all, iptables", on: ["redirected", "host", "proof"], backend: "iptables" },
  { name: "-redirected", on: ["host", "proof"] },
  { name: "-host", on: ["redirected", "proof"] },
  { name: "-proof", on: ["redirected", "host"] },
];

/** The firewall reads the ports to guard from the installed configuration. */
export const configPath = "/etc/ec2metaproxy/config.json";

/** As in release 1.0.0: any container on a bridge can reach the ports. */
const openPorts = `for chain in proxy_port credentials_port; do
  nft flush chain inet ec2metaproxy $chain && nft add rule inet ec2metaproxy $chain accept || exit
done`;

/** Removes layers by changing the rules by hand, which no setting of the product can do. */
export async function setLayers({ host, proxy }: Scene, { on, backend }: Column): Promise<void> {
  const settings = config(on.includes("proof") ? "socket" : "off");
  await host.write(configPath, JSON.stringify(settings));
  await host.write("/etc/ec2metaproxy/firewall.d/50-test.conf", `BACKEND=${backend ?? "nftables"}\n`);
  const firewall = (action: string) => [node, `${repository}/src/main.ts`, "firewall", action];
  await host.exec(firewall("remove"));
  // Without nft the firewall uses ebtables for frames.
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
