import { type ExitCode, exitCodes } from "../errors.ts";
import { type Backend, type Choice, type Comparison, chooseBackend, inPlace } from "../firewall/backend.ts";
import type { Run } from "../firewall/command.ts";
import { forgetOldConnections } from "../firewall/conntrack.ts";
import { chooseLayer2, type Layer2, openWithout } from "../firewall/layer2.ts";
import { applyGuard, type GuardChange, guardPresent } from "../firewall/route-guard.ts";
import type { Ruleset } from "../firewall/ruleset.ts";
import type { Log } from "../log.ts";
import { frameFilters, removeFrameFilters, removeOthers } from "./firewall-filters.ts";
import type { FirewallOptions, Print } from "./firewall-options.ts";
import type { Prepared } from "./firewall-settings.ts";
import { describe, describeLayer2 } from "./firewall-status.ts";

export async function apply(
  wanted: "auto" | Backend["name"],
  { settings, rules }: Prepared,
  backends: readonly Backend[],
  options: FirewallOptions,
  print: Print,
  log: Log,
  run: Run,
): Promise<ExitCode> {
  let choice: Choice;
  let before: Comparison;
  const undos: (() => Promise<void>)[] = [];
  let changed = false;
  let guard: GuardChange;
  let layer2: Layer2;
  try {
    choice = await chooseBackend(wanted, backends, rules);
    layer2 = await chooseLayer2(run, settings, frameFilters(run));
    // What closes comes first: the guard and the frames before the filter, and without a guard the filter before it goes.
    guard = rules.guarded === undefined ? unchanged : await applyGuard(run, rules.guarded);
    undos.unshift(guard.undo);
    if (layer2.kind === "filtered") {
      const { filter, sources } = layer2;
      if (!inPlace(await filter.compare(sources))) {
        undos.unshift(await filter.apply(sources));
        changed = true;
      }
    }
    before = await choice.backend.compare(rules);
    if (!inPlace(before)) {
      await choice.backend.apply(rules);
      changed = true;
    }
    if (rules.guarded === undefined) guard = await applyGuard(run, undefined);
  } catch (error) {
    for (const undo of undos)
      await undo().catch((err: unknown) => log.error({ err }, "bringing the former rules back failed"));
    await closeIfOpen(run, backends, rules, log);
    throw error;
  }
  const { backend, reason } = choice;
  const keep = layer2.kind === "filtered" ? layer2.filter.place : undefined;
  if (settings.layer2 === "off" || (keep !== undefined && changed))
    changed = (await removeFrameFilters(run, keep)) || changed;
  if (!before.present) {
    log.info({ backend: backend.name, reason }, "firewall backend chosen");
    await removeOthers(run, backend);
    log.debug({}, await forgetOldConnections(run, [settings.metadataIpv4, settings.metadataIpv6]));
    if (layer2.kind === "open")
      log.warn({ reason: layer2.why }, `no rules for layer 2 on this host: ${openWithout}`);
  }
  const done = changed
    ? "applied"
    : guard.changed
      ? "already in place, routing guard applied"
      : "already in place";
  const summary = `${backend.name}: ${backend.place} ${done} (${describe(settings)}); ${describeLayer2(layer2)}`;
  print(
    options.json
      ? JSON.stringify({ backend: backend.name, reason, changed: changed || guard.changed, summary })
      : summary,
  );
  return exitCodes.ok;
}

const unchanged: GuardChange = { changed: false, undo: async () => {} };

/** A host whose containers would reach the instance's own role, because there are no rules and none can be made: closed by routing. */
export async function closeIfOpen(
  run: Run,
  backends: readonly Backend[],
  rules: Ruleset,
  log: Log,
): Promise<void> {
  if (rules.guarded === undefined) return;
  try {
    if (await guardPresent(run)) return;
    for (const backend of backends) if ((await backend.compare(rules)).present) return;
  } catch {
    // A filter that cannot be read is no filter that protects; closing twice does no harm.
  }
  try {
    await applyGuard(run, rules.guarded);
    log.warn(
      { addresses: rules.guarded.addresses },
      "no firewall rules are in force; containers are kept from the metadata service by routing until that is mended, or until `ec2metaproxy firewall remove`",
    );
  } catch (error) {
    log.error({ err: error }, "NO FIREWALL RULES ARE IN FORCE: containers may reach the instance's own role");
  }
}
