import { writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test as Tap } from "tap";
import type { Outcome, Run } from "../../src/firewall/command.ts";
import { command, type Filter, filters } from "./backends.ts";
import { unable } from "./requirements.ts";
import { metadata, World } from "./world.ts";

const skip = unable(process.env) ?? false;

const docker = { name: "docker0", container: "docker", net: 1 } as const;
const load = { do: "load", address: metadata.ipv4, port: 80 } as const;

for (const filter of filters) {
  t.test(`${filter.name}: apply is one transaction`, { timeout: 300_000, skip }, async (t) => {
    await using world = await World.make();
    world.addBridge(docker);
    othersRules(world, filter);
    const run = world.hostRun(filter.rename);
    const settings = settingsIn(t);
    const initial = state(world, filter);

    settings("");
    const apply = (by: Run = run) => command(by, "apply", settings.directory, filter.backend);
    t.match((await apply()).text, " applied (");
    const ask = { do: "ask", protocol: "tcp", address: metadata.ipv4, port: 80 } as const;
    t.equal(await world.tell("docker", ask), "proxy");
    const counted = counters(world, filter);
    t.match((await apply()).text, "already in place", "a second apply finds nothing to do");
    t.equal(counters(world, filter), counted, "and does not change the counters");

    const answering = world.tell("docker", load);
    const started = performance.now();
    let replaced = 0;
    for (let n = 0; n < 100; n++) {
      settings(n % 10 === 9 ? "REJECT_INSTEAD_OF_DROP=yes\n" : `INTERFACES='docker0 br-* other${n}'\n`);
      if ((await apply()).text.includes(" applied (")) replaced++;
    }
    t.comment(`measured: ${filter.name}: 100 applies in ${Math.round(performance.now() - started)} ms`);
    t.equal(replaced, 100, "each of 100 applies replaced the rules");
    await world.tell("docker", { do: "stop" });
    const answers = JSON.parse(await answering) as Record<string, number>; // agent.ts wrote it
    t.comment(`measured: ${filter.name}: answers meanwhile: ${JSON.stringify(answers)}`);
    const others = Object.keys(answers).filter((answer) => !/^proxy( late)?$/.test(answer));
    t.strictSame(others, [], "every request was answered by the proxy");

    await failures(t, world, filter, run, settings);

    const kept = state(world, filter);
    settings("PROXY_PORT=99999\nINTERFACE=docker0\n");
    const refusal = await apply().catch((error: unknown) => error);
    t.match(
      refusal,
      { exitCode: 78, problems: [{ where: /:1$/ }, { where: /:2$/ }] },
      "bad settings are refused",
    );
    t.equal(state(world, filter), kept, "and the rules in force are unchanged");

    await command(run, "remove", settings.directory);
    t.equal(state(world, filter), initial, "remove leaves all other rules unchanged, byte for byte");
    t.match((await command(run, "remove", settings.directory)).text, "nothing to remove");
  });
}

/**
 * Changes from one set of rules to another, and makes each modifying command fail in turn and in every way.
 */
async function failures(t: Tap, world: World, filter: Filter, run: Run, settings: SettingsIn): Promise<void> {
  const from = "INTERFACES='docker0'\n";
  const to =
    "REJECT_INSTEAD_OF_DROP=yes\nHOST_ACCESS=root\nMETADATA_PORT=81\nMETADATA_IPV4=169.254.169.253\n";
  const apply = (by: Run) => command(by, "apply", settings.directory, filter.backend);
  for (const way of ["refused", "done by half", "killed afterwards"] as const) {
    for (let step = 1; ; step++) {
      settings(from);
      await apply(run);
      const former = rules(world, filter);
      settings(to);
      const faulty = failing(run, step, way);
      const failed = await apply(faulty.run).then(
        () => false,
        () => true,
      );
      if (faulty.steps() < step) break;
      t.ok(failed, `step ${step} (${faulty.what()}) ${way}: apply fails`);
      t.equal(
        rules(world, filter),
        former,
        `step ${step} (${faulty.what()}) ${way}: the previous rules are complete`,
      );
    }
  }
}

/** Whether a command modifies rules. Deleting conntrack entries or empty base chains does not. */
function changes(name: string, args: readonly string[], input: string): boolean {
  if (name === "nft") return !args.includes("-c") && input.includes("ec2metaproxy");
  if (name === "ip") return args.includes("add") || args.includes("del");
  return name.endsWith("-restore") && !args.includes("--test");
}

function failing(run: Run, step: number, way: "refused" | "done by half" | "killed afterwards") {
  let steps = 0;
  let what = "";
  const refusal: Outcome = { kind: "ran", exitCode: 1, stdout: "", stderr: "made to fail" };
  const faulty: Run = async (name, args, input) => {
    if (!changes(name, args, input ?? "") || ++steps !== step) return run(name, args, input);
    what = `${name} ${args.join(" ")}`;
    if (way === "killed afterwards") await run(name, args, input);
    // The real command rejects its last transaction and commits those before it.
    if (way === "done by half" && input)
      return run(name, args, input.replace(/(COMMIT|\})\s*$/, "garbage\n$1\n"));
    return refusal;
  };
  return { run: faulty, steps: () => steps, what: () => what };
}

/** Rules such as Docker and an administrator have. */
function othersRules(world: World, filter: Filter): void {
  for (const name of ["iptables", "ip6tables"]) {
    const iptables = (...args: string[]) => world.exec("host", filter.rename(name), ...args);
    iptables("-t", "nat", "-N", "DOCKER");
    iptables("-t", "nat", "-A", "PREROUTING", "-m", "addrtype", "--dst-type", "LOCAL", "-j", "DOCKER");
    iptables("-t", "filter", "-N", "DOCKER-USER");
    iptables("-t", "filter", "-A", "FORWARD", "-j", "DOCKER-USER");
    iptables("-t", "filter", "-A", "FORWARD", "-i", "docker0", "-j", "ACCEPT");
    iptables("-t", "filter", "-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "ACCEPT");
  }
  world.exec(
    "host",
    "nft",
    "add table inet mine; add chain inet mine in { type filter hook input priority 5; }",
  );
}

/** All rules of the host, ours and others, without counters. */
function state(world: World, filter: Filter): string {
  const save = (command: string) =>
    world
      .exec("host", filter.rename(command))
      .replace(/^#.*\n/gm, "")
      .replace(/\[\d+:\d+\]/g, "");
  // A table of iptables-legacy is part of the kernel. Once used it stays, empty.
  const used = (text: string) => text.replace(/^\*\w+\n(:[A-Z]+ ACCEPT \n)*COMMIT\n/gm, "");
  const saved = [save("iptables-save"), save("ip6tables-save")].map(
    filter.name === "iptables-legacy" ? used : String,
  );
  const rules = [world.ip("host", "-4", "rule"), world.ip("host", "-6", "rule")];
  return [world.exec("host", "nft", "-s", "list", "ruleset"), ...saved, ...rules].join("\n");
}

/** Only the rules: empty built-in chains and the order of tables and chains in the output do not matter. */
function rules(world: World, filter: Filter): string {
  const tables = state(world, filter).split(/^(?=\*|table )/m);
  if (filter.name === "nftables")
    return tables
      .map((text) => text.trim())
      .sort()
      .join("\n");
  const saved = tables.filter((text) => text.startsWith("*") && /^-A/m.test(text)).sort();
  const lines = saved.flatMap((text) => [
    text.split("\n")[0] ?? "",
    ...text
      .split("\n")
      .filter((line) => /^-A|^\d/.test(line))
      .sort(),
  ]);
  const frames = world.exec("host", "nft", "-s", "list", "tables", "bridge").includes("ec2metaproxy")
    ? world.exec("host", "nft", "-s", "list", "table", "bridge", "ec2metaproxy")
    : "";
  return [...lines, frames].join("\n");
}

function counters(world: World, filter: Filter): string {
  if (filter.name === "nftables") return world.exec("host", "nft", "list", "table", "inet", "ec2metaproxy");
  const saved = world.exec("host", filter.rename("iptables-save"), "-c").split("\n");
  return saved.filter((line) => line.includes("-A EC2METAPROXY-")).join("\n");
}

type SettingsIn = ((text: string) => void) & { readonly directory: string };

function settingsIn(t: Tap): SettingsIn {
  const directory = t.testdir({});
  return Object.assign((text: string) => writeFileSync(join(directory, "firewall.conf"), text), {
    directory,
  });
}
