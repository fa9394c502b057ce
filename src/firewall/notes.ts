import { access, readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Backend } from "./backend.ts";
import type { Run } from "./command.ts";
import { matchesInterface } from "./interface-name.ts";
import type { Settings } from "./settings.ts";

/**
 * Other things on this host that keep containers from reaching the proxy, each with the line that fixes it.
 */
export async function notes(
  run: Run,
  settings: Settings,
  backend: Backend["name"],
): Promise<readonly string[]> {
  const bridges = await bridgesOfHost();
  return [...unlisted(bridges, settings), ...(await inputPolicy(run, settings, backend, bridges))];
}

async function bridgesOfHost(): Promise<readonly string[]> {
  const names = await readdir("/sys/class/net").catch(() => []);
  const checks = names.map(async (name) => {
    const isBridge = await access(join("/sys/class/net", name, "bridge")).then(
      () => true,
      () => false,
    );
    return isBridge ? [name] : [];
  });
  return (await Promise.all(checks)).flat();
}

function unlisted(bridges: readonly string[], settings: Settings): readonly string[] {
  return bridges
    .filter((name) => !settings.interfaces.some((pattern) => matchesInterface(pattern, name)))
    .map((name) => {
      const now =
        settings.forwarded === "drop"
          ? "containers on it cannot reach the metadata service"
          : "CONTAINERS ON IT REACH THE INSTANCE'S OWN ROLE";
      return `bridge ${name} is not in INTERFACES: ${now}. If it carries containers: INTERFACES="${settings.interfaces.join(" ")} ${name}"`;
    });
}

/** Our table cannot override a drop in another one, so the operator must open the services' ports there. */
async function inputPolicy(
  run: Run,
  settings: Settings,
  backend: Backend["name"],
  bridges: readonly string[],
): Promise<readonly string[]> {
  const ports = [settings.proxyPort, settings.credentialsPort].filter((port) => port !== undefined);
  const still = "(the rules of ec2metaproxy still accept only containers)";
  if (await firewalldRuns(run)) return firewalldNotes(run, settings, ports, bridges);
  // Our chain in the filter table accepts before ufw and similar tools drop.
  if (backend === "iptables") return [];
  const ufw = await run("ufw", ["status"]);
  if (ufw.kind === "ran" && /^Status: active/m.test(ufw.stdout)) {
    return ports
      .filter((port) => !new RegExp(`^${port}(/tcp)?\\s+.*ALLOW`, "m").test(ufw.stdout))
      .map((port) => `ufw drops requests from containers: run  ufw allow ${port}/tcp  ${still}`);
  }
  const saved = await run("iptables-save", ["-t", "filter"]);
  const shut =
    saved.kind === "ran" && /^:INPUT DROP/m.test(saved.stdout)
      ? ports.filter((port) => !saved.stdout.includes(`--dport ${port} `))
      : [];
  if (shut.length > 0) {
    return shut.map(
      (port) =>
        `the iptables chain INPUT drops by default: run  iptables -I INPUT -p tcp --dport ${port} -j ACCEPT  ${still}`,
    );
  }
  const listing = await run("nft", ["-s", "list", "ruleset"]);
  return ports.flatMap((port) => nftablesPolicy(listing, port).map((note) => `${note}  ${still}`));
}

function nftablesPolicy(listing: Awaited<ReturnType<Run>>, port: number): readonly string[] {
  if (listing.kind === "missing" || listing.exitCode !== 0) return [];
  for (const table of listing.stdout.split(/^(?=table )/m)) {
    const [, family, name] = /^table (\S+) (\S+) \{/.exec(table) ?? [];
    // The tables of iptables-nft were checked above.
    if (family === undefined || name === "ec2metaproxy" || /^ip6? filter$/.test(`${family} ${name}`))
      continue;
    const [, chain] = /chain (\S+) \{\s*type filter hook input [^\n]*policy drop;/.exec(table) ?? [];
    if (chain === undefined || new RegExp(`dport.*\\b${port}\\b.*accept`).test(table)) continue;
    return [
      `the nftables chain ${family} ${name} ${chain} drops by default: run  nft insert rule ${family} ${name} ${chain} tcp dport ${port} accept`,
    ];
  }
  return [];
}

async function firewalldRuns(run: Run): Promise<boolean> {
  const outcome = await run("firewall-cmd", ["--state"]);
  return outcome.kind === "ran" && outcome.exitCode === 0;
}

/**
 * firewalld accepts redirected connections (`ct status dnat`), except in old versions. Without that, Docker
 * and netavark put their bridges into zones that accept everything; a bridge in another zone needs the port
 * opened there.
 */
async function firewalldNotes(
  run: Run,
  settings: Settings,
  services: readonly number[],
  bridges: readonly string[],
): Promise<readonly string[]> {
  const ask = async (...args: string[]): Promise<string> => {
    const outcome = await run("firewall-cmd", args);
    return outcome.kind === "ran" && outcome.exitCode === 0 ? outcome.stdout.trim() : "";
  };
  const chain = await run("nft", ["list", "chain", "inet", "firewalld", "filter_INPUT"]);
  const input = await run("iptables-save", ["-t", "filter"]);
  const takesRedirected =
    (chain.kind === "ran" && /ct status dnat accept/.test(chain.stdout)) ||
    (input.kind === "ran" && /^-A INPUT .*--ctstate \S*DNAT\b.* -j ACCEPT$/m.test(input.stdout));
  // Connections to the credentials port are not redirected.
  const ports = services.filter((port) => !(takesRedirected && port === settings.proxyPort));
  if (ports.length === 0) return [];
  const shut = new Map<string, { readonly bridges: readonly string[]; readonly closed: readonly number[] }>();
  for (const bridge of bridges) {
    if (!settings.interfaces.some((pattern) => matchesInterface(pattern, bridge))) continue;
    const zone = (await ask(`--get-zone-of-interface=${bridge}`)) || (await ask("--get-default-zone"));
    const target = await ask("--permanent", `--zone=${zone}`, "--get-target");
    const closed: number[] = [];
    for (const port of ports) {
      if ((await ask(`--zone=${zone}`, `--query-port=${port}/tcp`)) !== "yes") closed.push(port);
    }
    if (zone === "" || target === "ACCEPT" || closed.length === 0) continue;
    shut.set(zone, { bridges: [...(shut.get(zone)?.bridges ?? []), bridge], closed });
  }
  return [...shut].map(([zone, { bridges: names, closed }]) => {
    const adding = closed.map((port) => `--add-port=${port}/tcp`).join(" ");
    const open = `firewall-cmd --permanent --zone=${zone} ${adding} && firewall-cmd --reload`;
    return `firewalld's zone ${zone} refuses requests from ${names.join(", ")}: run  ${open}`;
  });
}
