import { firewall } from "../../src/commands/firewall.ts";
import type { ExitCode } from "../../src/errors.ts";
import type { Run } from "../../src/firewall/command.ts";
import type { Log } from "../../src/log.ts";
import type { World } from "./world.ts";

/** The three filters that a host can have. */
export type Filter = {
  readonly name: "nftables" | "iptables-nft" | "iptables-legacy";
  readonly backend: "nftables" | "iptables";
  /**
   * What the product's commands are called, so that the variant is the one meant, whatever the machine's
   * default is.
   */
  readonly rename: (command: string) => string;
  /** Takes every rule of this filter away, as an administrator would. */
  readonly flush: (world: World) => void;
};

const variant = (suffix: string) => (command: string) =>
  command.replace(/^(ip6?tables)(-nft|-legacy)?/, `$1-${suffix}`);

function flushTables(suffix: string) {
  return (world: World) => {
    for (const command of [`iptables-${suffix}`, `ip6tables-${suffix}`]) {
      for (const table of ["nat", "mangle", "filter", "security"]) {
        world.exec("host", command, "-t", table, "-F");
        world.exec("host", command, "-t", table, "-X");
      }
    }
  };
}

export const filters: readonly Filter[] = [
  {
    name: "nftables",
    backend: "nftables",
    rename: variant("nft"),
    flush: (world) => {
      world.exec("host", "nft", "flush", "ruleset");
    },
  },
  { name: "iptables-nft", backend: "iptables", rename: variant("nft"), flush: flushTables("nft") },
  { name: "iptables-legacy", backend: "iptables", rename: variant("legacy"), flush: flushTables("legacy") },
];

const silent: Log = { debug() {}, info() {}, warn() {}, error() {} };

export type Said = { readonly code: ExitCode; readonly text: string };

/** Where the services of test/netns/world.ts listen. */
export const ports = { proxy: 18_000, credentials: 18_008, metrics: 18_009 } as const;

/** `ec2metaproxy firewall ACTION` in the host's namespace. Without `backend` the settings decide. */
export async function command(
  run: Run,
  action: "apply" | "remove" | "status" | "render",
  settingsDirectory: string,
  backend?: "nftables" | "iptables",
  log: Log = silent,
): Promise<Said> {
  const said: string[] = [];
  const options = { action, configPath: "", settingsDirectory, backend, json: false };
  const code = await firewall(options, ports, (text) => said.push(text), log, run);
  return { code, text: said.join("\n") };
}
