import { type Backend, type Choice, type Comparison, chooseBackend, inPlace } from "../firewall/backend.ts";
import { needsRoot } from "../firewall/command.ts";
import { forgetOldConnections } from "../firewall/conntrack.ts";
import { chooseLayer2, type Layer2, openWithout } from "../firewall/layer2.ts";
import { applyGuard, type GuardChange, guardPresent } from "../firewall/route-guard.ts";
import type { Log } from "../log.ts";
import { removeFrameFilters, removeOthers } from "./firewall-filters.ts";
import type { FirewallPlan } from "./firewall-plan.ts";
import { describe, describeLayer2 } from "./firewall-status.ts";

/** What `firewall apply --json` prints. */
export type FirewallApplied = {
  readonly backend: Backend["name"];
  /** Why this backend. */
  readonly reason: string;
  readonly changed: boolean;
  readonly summary: string;
};

export type InForce = {
  readonly applied: FirewallApplied;
  /** The input for nft that makes each of our tables anew, by the table's family and name. */
  readonly tables: ReadonlyMap<string, string>;
};

/**
 * Puts the plan's rules in force. Where it throws, the previous rules are in force again.
 * @param others what to do with rules elsewhere, which a change of backend or of LAYER2 leaves behind
 */
export async function applyFirewall(
  plan: FirewallPlan,
  log: Log,
  others: "remove" | "keep",
): Promise<InForce> {
  const { settings, rules, run } = plan;
  let choice: Choice;
  let before: Comparison;
  const undos: (() => Promise<void>)[] = [];
  let changed = false;
  let guard: GuardChange;
  let layer2: Layer2;
  try {
    choice = await chooseBackend(plan.wanted, plan.backends, rules);
    layer2 = await chooseLayer2(run, settings, plan.frames);
    // Close before opening: the guard and the frame rules go in before the packet rules. Where the settings
    // have no guard, it is removed after the packet rules are in.
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
      await undo().catch((err: unknown) =>
        log.error({ code: "rules-not-undone", err }, "restoring the previous rules failed"),
      );
    await closeIfOpen(plan, log);
    throw error;
  }
  const { backend, reason } = choice;
  const keep = layer2.kind === "filtered" ? layer2.filter.place : undefined;
  if (others === "remove" && (settings.layer2 === "off" || (keep !== undefined && changed)))
    changed = (await removeFrameFilters(plan.frames, keep)) || changed;
  if (!before.present) {
    if (others === "remove") {
      log.info({ backend: backend.name, reason }, "firewall backend chosen");
      await removeOthers(run, backend);
    }
    log.debug({}, await forgetOldConnections(run, [settings.metadataIpv4, settings.metadataIpv6]));
    if (layer2.kind === "open")
      log.warn(
        { code: "layer2-missing", reason: layer2.why },
        `no rules for layer 2 on this host: ${openWithout}`,
      );
  }
  const done = changed
    ? "applied"
    : guard.changed
      ? "already in place, routing guard applied"
      : "already in place";
  const applied = {
    backend: backend.name,
    reason,
    changed: changed || guard.changed,
    summary: `${backend.name}: ${backend.place} ${done} (${describe(settings)}); ${describeLayer2(layer2)}`,
  };
  const rendered = [
    [backend.place, backend.render(rules)],
    ...(layer2.kind === "filtered" ? [[layer2.filter.place, layer2.filter.render(layer2.sources)]] : []),
  ] as const;
  const tables = rendered.flatMap(([place = "", text = ""]) => {
    const name = /^table (.+)$/.exec(place)?.[1];
    return name === undefined ? [] : [[name, text] as const];
  });
  return { applied, tables: new Map(tables) };
}

const unchanged: GuardChange = { changed: false, undo: async () => {} };

/**
 * Blocks the containers' way to the metadata service by routing where no rules are in force and none can be
 * made. Otherwise they would reach the instance's own role.
 */
export async function closeIfOpen(
  { run, backends, rules }: Pick<FirewallPlan, "run" | "backends" | "rules">,
  log: Log,
): Promise<void> {
  if (rules.guarded === undefined) return;
  try {
    if (await guardPresent(run)) return;
    for (const backend of backends) if ((await backend.compare(rules)).present) return;
  } catch {
    // A filter that cannot be read is not known to protect anything. Blocking twice does no harm.
  }
  try {
    await applyGuard(run, rules.guarded);
    log.warn(
      { code: "rules-missing-closed", addresses: rules.guarded.addresses },
      "no firewall rules are in force; containers are kept from the metadata service by routing until that is fixed, or until `ec2metaproxy firewall remove`",
    );
  } catch (error) {
    // An ordinary user can neither see nor change whether rules are in force.
    if (needsRoot(error)) return;
    log.error(
      { code: "rules-missing-open", err: error },
      "NO FIREWALL RULES ARE IN FORCE: containers may reach the instance's own role",
    );
  }
}
