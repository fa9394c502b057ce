import { node, repository } from "../host/host.ts";
import { config, type Scene } from "./scene.ts";

/** The layers of "who is asking" that are in force: SECURITY.md. */
export type Layer = "redirected" | "host" | "proof";

export const layers = {
  redirected:
    "only redirected connections reach the proxy's port (table inet ec2metaproxy, chain proxy_port)",
  host: "nobody on a bridge speaks as the host (table bridge ec2metaproxy)",
  proof: "the caller's socket is the container's own, and its port does not listen (identityProof)",
} as const satisfies Record<Layer, string>;

/** What is in force for a column of the table. */
export const columns = [
  { name: "none", on: [] },
  { name: "all", on: ["redirected", "host", "proof"] },
  { name: "-redirected", on: ["host", "proof"] },
  { name: "-host", on: ["redirected", "proof"] },
  { name: "-proof", on: ["redirected", "host"] },
] as const satisfies readonly { readonly name: string; readonly on: readonly Layer[] }[];

export type Column = (typeof columns)[number];

/** Takes layers away as no operator can: the rules by hand, below the product. */
export async function setLayers({ host, proxy }: Scene, on: readonly Layer[]): Promise<void> {
  await host.exec([node, `${repository}/src/main.ts`, "firewall", "apply"]);
  if (!on.includes("redirected")) {
    // As in release 1.0.0: whoever is on a bridge reaches the port.
    await host.exec(
      "nft flush chain inet ec2metaproxy proxy_port && nft add rule inet ec2metaproxy proxy_port accept",
    );
    await host.exec(
      "! nft list chain inet ec2metaproxy credentials_port || { nft flush chain inet ec2metaproxy credentials_port && nft add rule inet ec2metaproxy credentials_port accept; }",
    );
  }
  if (!on.includes("host")) await host.exec("nft delete table bridge ec2metaproxy", { check: false });
  await proxy.writeConfig(config(on.includes("proof") ? "socket" : "off"));
  await proxy.restart();
}
