import { type ExitCode, exitCodes, explain, OperatorError } from "../errors.ts";
import type { Backend } from "../firewall/backend.ts";
import { type Run, run as runCommand } from "../firewall/command.ts";
import { chooseLayer2 } from "../firewall/layer2.ts";
import { removeGuard } from "../firewall/route-guard.ts";
import { ruleset } from "../firewall/ruleset.ts";
import { defaultSettings, type Ports } from "../firewall/settings.ts";
import type { Log } from "../log.ts";
import { apply, closeIfOpen } from "./firewall-apply.ts";
import { backendsHere, everywhere, frameFilters } from "./firewall-filters.ts";
import type { FirewallOptions, Print } from "./firewall-options.ts";
import { type Prepared, prepare, settingsError } from "./firewall-settings.ts";
import { status } from "./firewall-status.ts";

/**
 * @param ports those of config.json
 * @throws OperatorError 78 for bad settings, 69 for what the host lacks; the rules in force are then as before
 */
export async function firewall(
  options: FirewallOptions,
  ports: Ports,
  print: Print,
  log: Log,
  run: Run = runCommand,
): Promise<ExitCode> {
  const backends = backendsHere(run);
  if (options.action === "remove") return remove(options, print, run);
  const prepared = await prepare(options.settingsDirectory, ports, run);
  if ("problems" in prepared) {
    if (options.action === "apply")
      await closeIfOpen(run, backends, ruleset(defaultSettings(ports), undefined), log);
    throw settingsError(options.settingsDirectory, options.action === "apply", prepared.problems);
  }
  const wanted = options.backend ?? prepared.settings.backend;
  switch (options.action) {
    case "render":
      return render(wanted, prepared, backends, options, print, run);
    case "apply":
      return apply(wanted, prepared, backends, options, print, log, run);
    case "status":
      return status(wanted, prepared, backends, options, print, run);
  }
}

/** Without root, and without asking what this host can: it prints the rules of a host that has all. */
async function render(
  wanted: "auto" | Backend["name"],
  { settings, rules }: Prepared,
  backends: readonly Backend[],
  options: FirewallOptions,
  print: Print,
  run: Run,
): Promise<ExitCode> {
  const name = wanted === "auto" ? "nftables" : wanted;
  const anyHost = frameFilters(run).map((filter) => ({ ...filter, obstacle: async () => undefined }));
  const layer2 = await chooseLayer2(run, settings, anyHost);
  const frames = layer2.kind === "filtered" ? layer2.filter.render(layer2.sources) : "";
  const packets = backends.find((backend) => backend.name === name)?.render(rules) ?? "";
  const text = frames === "" || name === "nftables" ? packets + frames : `${packets}\n# nft -f\n${frames}`;
  print(options.json ? JSON.stringify({ backend: name, rules: text }) : text.trimEnd());
  return exitCodes.ok;
}

/** Does all it can, and reports every failure. */
async function remove(options: FirewallOptions, print: Print, run: Run): Promise<ExitCode> {
  const removed: string[] = [];
  const failures: unknown[] = [];
  const steps = [
    ...everywhere(run).map((backend) => ({
      what: `${backend.name}: ${backend.place}`,
      remove: () => backend.remove(),
    })),
    ...frameFilters(run).map((filter) => ({ what: filter.place, remove: () => filter.remove() })),
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
  const text =
    removed.length === 0
      ? "nothing to remove"
      : `removed ${removed.join(", ")}; containers can now reach the instance's own role`;
  print(options.json ? JSON.stringify({ removed }) : text);
  return exitCodes.ok;
}
