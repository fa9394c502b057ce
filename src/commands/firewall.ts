import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import type { Command } from "../cli.ts";
import type { Config } from "../config/schema.ts";
import { type ExitCode, exitCodes, explain, OperatorError } from "../errors.ts";
import type { Backend } from "../firewall/backend.ts";
import { type Run, run as runCommand } from "../firewall/command.ts";
import { engineBridgesFile, readEngineBridges } from "../firewall/engine-bridges.ts";
import { chooseLayer2 } from "../firewall/layer2.ts";
import { lockTable } from "../firewall/lock-table.ts";
import { nftTable } from "../firewall/nft-table.ts";
import { defaultPorts, portsInText, portsOf } from "../firewall/ports.ts";
import type { Probed } from "../firewall/probe.ts";
import { removeGuard } from "../firewall/route-guard.ts";
import { ruleset } from "../firewall/ruleset.ts";
import { defaultSettings, type Ports, type Settings } from "../firewall/settings.ts";
import type { Log } from "../log.ts";
import { type Configuration, configuration } from "./configuration.ts";
import { applyFirewall, closeIfOpen } from "./firewall-apply.ts";
import { backendsHere, everyBackend, frameFilters } from "./firewall-filters.ts";
import { type FirewallPlan, planFirewall, settingsError } from "./firewall-plan.ts";
import { hostTools, probeBridges, probeLine } from "./firewall-probe.ts";
import { type FirewallStatus, firewallStatus } from "./firewall-status.ts";

export const defaultSettingsDirectory = "/etc/ec2metaproxy";

export type FirewallOptions = Pick<Extract<Command, { command: "firewall" }>, "action" | "json"> & {
  /** Contains firewall.conf and firewall.d. */
  readonly settingsDirectory: string;
  /** Overrides the settings' BACKEND. */
  readonly backend?: Backend["name"] | undefined;
  /** Names of bridges that are covered in addition to INTERFACES. */
  readonly engineBridges?: readonly string[];
  /** status: sends a request from each bridge. */
  readonly probing?: (settings: Settings) => Promise<readonly Probed[]>;
};

/**
 * `firewall` with this host's settings, and the ports of its config.json.
 * @param program how this program is started again
 */
export async function firewallCommand(
  {
    action,
    configPath,
    settingsDirectory = defaultSettingsDirectory,
    backend,
    json,
    probe,
  }: Extract<Command, { command: "firewall" }>,
  print: (text: string) => void,
  log: Log,
  program: readonly string[],
): Promise<ExitCode> {
  const ports = action === "remove" ? defaultPorts : await configuredPorts(configuration(configPath), log);
  const engineBridges = action === "remove" ? [] : await knownEngineBridges(log);
  const probing = probe ? (settings: Settings) => probeBridges(hostTools(program), settings) : undefined;
  const options = { action, settingsDirectory, backend, engineBridges, json, ...(probing && { probing }) };
  return firewall(options, ports, print, log);
}

/** `firewall status` as a value, with this host's settings and the ports of a configuration. */
export async function hostFirewallStatus(config: Config, log: Log): Promise<FirewallStatus> {
  return firewallStatus(await hostPlan(config, log));
}

/** The settings of this host, with the ports of a configuration. */
export async function hostFirewallSettings(config: Config, log: Log): Promise<Settings> {
  return (await hostPlan(config, log)).settings;
}

/** @throws OperatorError 78 for bad settings */
async function hostPlan(config: Config, log: Log): Promise<FirewallPlan> {
  const bridges = await knownEngineBridges(log);
  const ports = portsOf(config);
  const plan = await planFirewall(defaultSettingsDirectory, undefined, ports, bridges, runCommand);
  if (!plan.ok) throw settingsError(defaultSettingsDirectory, false, plan.problems);
  return plan;
}

/** Those that the guard has found. A file that cannot be used must not prevent the other rules. */
async function knownEngineBridges(log: Log): Promise<readonly string[]> {
  const { names, error } = await readEngineBridges(engineBridgesFile);
  if (error !== undefined)
    log.warn(
      { code: "bridges-unreadable", error },
      `${engineBridgesFile} cannot be used; bridges that an engine names itself are not covered until the guard writes it again`,
    );
  return names;
}

/**
 * The ports that config.json names. The rules must stand even where it is broken: the redirect then leads to
 * a proxy that does not run, so connections are refused. Without the rules they would reach the instance's
 * own role.
 */
export async function configuredPorts(file: Configuration, log: Log): Promise<Ports> {
  try {
    return portsOf(await file.read());
  } catch (error) {
    const ports = portsInText(await readFile(file.path, "utf8").catch(() => ""));
    if (ports !== undefined) {
      log.warn(
        { code: "ports-assumed", err: error, ...ports },
        `${file.path} has problems; the rules use the ports that it names`,
      );
      return ports;
    }
    log.warn(
      { code: "ports-assumed", err: error, port: defaultPorts.proxy },
      `reading ${file.path} failed; PROXY_PORT defaults to ${defaultPorts.proxy} until it is fixed`,
    );
    return defaultPorts;
  }
}

/**
 * @param ports those of config.json
 * @param restoredMs a running guard has restored what was removed within this time
 * @throws OperatorError 78 for bad settings, 69 for what the host lacks; the previous rules are then in force
 */
export async function firewall(
  options: FirewallOptions,
  ports: Ports,
  print: (text: string) => void,
  log: Log,
  run: Run = runCommand,
  restoredMs = 1_000,
): Promise<ExitCode> {
  const { action, settingsDirectory, backend, engineBridges = [] } = options;
  const show = (value: object, text: string) => print(options.json ? JSON.stringify(value) : text);
  if (action === "remove") {
    const removed = await removeFirewall(run);
    if (removed.length > 0) await delay(restoredMs);
    const restored = removed.length > 0 ? await ourTables(run) : [];
    if (restored.length > 0)
      throw new OperatorError(`removed ${removed.join(", ")}, but ${restored.join(", ")} came back`, {
        hint: "The guard restores the rules. Run: systemctl stop ec2metaproxy-guard && ec2metaproxy firewall remove",
        exitCode: exitCodes.failed,
      });
    const text =
      removed.length === 0
        ? "nothing to remove"
        : `removed ${removed.join(", ")}; containers can now reach the instance's own role`;
    show({ removed }, text);
    return exitCodes.ok;
  }
  const plan = await planFirewall(settingsDirectory, backend, ports, engineBridges, run);
  if (!plan.ok) {
    if (action === "apply") {
      const rules = ruleset(defaultSettings(ports), undefined);
      await closeIfOpen({ run, backends: backendsHere(run), rules }, log);
    }
    throw settingsError(settingsDirectory, action === "apply", plan.problems);
  }
  switch (action) {
    case "render": {
      const rendered = await renderFirewall(plan);
      show(rendered, rendered.rules.trimEnd());
      return exitCodes.ok;
    }
    case "apply": {
      const { applied } = await applyFirewall(plan, log, "remove");
      show(applied, applied.summary);
      return exitCodes.ok;
    }
    case "status": {
      const status = await firewallStatus(plan);
      const probes = await options.probing?.(plan.settings);
      if (probes === undefined) show(status, statusText(status));
      else show({ ...status, probes }, [statusText(status), ...probes.map(probeLine)].join("\n"));
      const isServed = probes?.every(({ ok }) => ok !== false) ?? true;
      return status.inPlace && isServed ? exitCodes.ok : exitCodes.failed;
    }
  }
}

function statusText(status: FirewallStatus): string {
  return [
    status.summary,
    ...status.missing.map((text) => `  missing: ${text}`),
    ...status.unexpected.map((text) => `  not ours: ${text}`),
    ...status.notes.map((text) => `  note: ${text}`),
    ...(status.inPlace ? [] : ["Run: ec2metaproxy firewall apply"]),
  ].join("\n");
}

/** The rules of a host that supports all of them: needs no root, and does not ask what this host supports. */
async function renderFirewall(
  plan: FirewallPlan,
): Promise<{ readonly backend: Backend["name"]; readonly rules: string }> {
  const backend = plan.wanted === "auto" ? "nftables" : plan.wanted;
  const anyHost = plan.frames.map((filter) => ({ ...filter, obstacle: async () => undefined }));
  const layer2 = await chooseLayer2(plan.run, plan.settings, anyHost);
  const frames = layer2.kind === "filtered" ? layer2.filter.render(layer2.sources) : "";
  const packets = plan.backends.find(({ name }) => name === backend)?.render(plan.rules) ?? "";
  const rules =
    frames === "" || backend === "nftables" ? packets + frames : `${packets}\n# nft -f\n${frames}`;
  return { backend, rules };
}

/** Those of our tables that there are now. */
async function ourTables(run: Run): Promise<readonly string[]> {
  const outcome = await run("nft", ["list", "tables"]);
  const lines = outcome.kind === "ran" && outcome.exitCode === 0 ? outcome.stdout.split("\n") : [];
  return lines.filter((line) => /^table (inet ec2metaproxy|bridge ec2metaproxy(_lock)?)$/.test(line.trim()));
}

/** What was removed. Tries every place, then reports every failure. */
async function removeFirewall(run: Run): Promise<readonly string[]> {
  const removed: string[] = [];
  const failures: unknown[] = [];
  const steps = [
    ...everyBackend(run).map((backend) => ({
      what: `${backend.name}: ${backend.place}`,
      remove: () => backend.remove(),
    })),
    ...frameFilters(run).map((filter) => ({ what: filter.place, remove: () => filter.remove() })),
    // The guard's. While it runs, it makes the table anew.
    { what: `table ${lockTable}`, remove: () => nftTable(run, lockTable).remove() },
    { what: "routing rules", remove: () => removeGuard(run) },
  ];
  for (const step of steps) {
    try {
      if (await step.remove()) removed.push(step.what);
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) {
    throw new OperatorError(failures.map(explain).join("; "), {
      hint: failures[0] instanceof OperatorError ? failures[0].hint : "",
      exitCode: exitCodes.unavailable,
    });
  }
  return removed;
}
