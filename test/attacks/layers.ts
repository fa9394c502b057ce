import { installGuard, startGuard, stopGuard } from "../support/host/guard.ts";
import { node, repository } from "../support/host/host.ts";
import { config, type Proof, type Scene } from "./scene.ts";

/** The layers that protect the identity of a caller: see SECURITY.md. */
export type Layer = "redirected" | "host" | "proof" | "lock";

export const layers = {
  redirected:
    "only redirected connections reach the proxy's port (table inet ec2metaproxy, chain proxy_port)",
  host: "no container can send as the host (table bridge ec2metaproxy)",
  proof: "the caller's socket belongs to the container, and its port is not listening (identityProof)",
  lock: "no container can send as another container (table bridge ec2metaproxy_lock, by the guard)",
} as const satisfies Record<Layer, string>;

export type Column = {
  readonly name: string;
  readonly on: readonly Layer[];
  /** Default: nftables, as the product chooses. */
  readonly backend?: "iptables";
  /** Whether attacks on the victim's own traffic are run as well. They depend on the lock alone. */
  readonly isOnTheWire?: boolean;
  /** Attacks that one of these layers stops are left out, unless the column is asked for by its name. */
  readonly withoutThoseOf?: readonly Layer[];
  /** Whether each attack that should fail goes on for the whole time. */
  readonly isThorough?: boolean;
};

/** As installed. */
export const allLayers: Column = {
  name: "all",
  on: ["redirected", "host", "proof", "lock"],
  isOnTheWire: true,
  isThorough: true,
};

/** Without the guard: as in release 1.0.0, or with `serve` alone. */
export const withoutLock: Column = {
  name: "-lock",
  on: ["redirected", "host", "proof"],
  isOnTheWire: true,
};

/** The columns of the table: the layers in force. */
export const columns: readonly Column[] = [
  { name: "none", on: [], isOnTheWire: true },
  allLayers,
  // identityProof: "address".
  { name: "-proof", on: ["redirected", "host", "lock"], withoutThoseOf: ["redirected", "host"] },
  withoutLock,
  { name: "iptables", on: ["redirected", "host", "proof"], backend: "iptables", isThorough: true },
  // The lock alone stops almost every attack, so it is off to show what the other layers do.
  { name: "-lock-redirected", on: ["host", "proof"] },
  { name: "-lock-host", on: ["redirected", "proof"] },
  { name: "-lock-proof", on: ["redirected", "host"] },
];

/** The firewall reads the ports to guard from the installed configuration. */
export const configPath = "/etc/ec2metaproxy/config.json";

/** As in release 1.0.0: any container on a bridge can reach the ports. */
const openPorts = `for chain in proxy_port credentials_port; do
  nft flush chain inet ec2metaproxy $chain && nft add rule inet ec2metaproxy $chain accept || exit
done`;

/** Removes layers by changing the rules by hand, which no setting of the product can do. */
export async function setLayers({ host, proxy, containers }: Scene, column: Column): Promise<void> {
  const { on, backend } = column;
  const settings = config(identityProof(on));
  // It would repair what is changed here.
  await stopGuard(host);
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
  if (on.includes("lock")) {
    await installGuard(host);
    await startGuard(host, { locked: containers });
  }
  await proxy.writeConfig(settings);
  await proxy.follow(on.includes("lock") ? "guard" : "engines");
  await proxy.restart();
}

function identityProof(on: readonly Layer[]): Proof {
  if (on.includes("proof")) return "socket";
  return on.includes("lock") ? "address" : "off";
}
