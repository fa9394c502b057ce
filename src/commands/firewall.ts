import { type ExitCode, exitCodes, explain, OperatorError } from "../errors.ts";
import { type Backend, type Comparison, inPlace } from "../firewall/backend.ts";
import { type Choice, chooseBackend } from "../firewall/choose.ts";
import { type Run, run as runCommand } from "../firewall/command.ts";
import { forgetOldConnections } from "../firewall/conntrack.ts";
import { iptables } from "../firewall/iptables.ts";
import { chooseLayer2, type FrameFilter, type Layer2, nftBridge, openWithout } from "../firewall/layer2.ts";
import { nftables } from "../firewall/nftables.ts";
import { kernelHasIpv6, notes, sharedPorts } from "../firewall/others.ts";
import {
  applyGuard,
  type GuardChange,
  guardPresent,
  missingFromGuard,
  removeGuard,
} from "../firewall/route-guard.ts";
import { type Ruleset, ruleset } from "../firewall/ruleset.ts";
import { defaultSettings, type Ports, type Settings } from "../firewall/settings.ts";
import type { Log } from "../log.ts";
import { type Prepared, prepare, settingsError } from "./firewall-settings.ts";

export type FirewallOptions = {
  readonly action: "apply" | "remove" | "status" | "render";
  readonly configPath: string;
  /** Where firewall.conf and firewall.d are; /etc/ec2metaproxy. */
  readonly settingsDirectory: string;
  /** Instead of the settings' BACKEND. */
  readonly backend?: "nftables" | "iptables" | undefined;
  readonly json: boolean;
};

/** What `firewall status --json` prints. */
export type FirewallStatus = {
  readonly backend: Backend["name"];
  readonly reason: string;
  readonly inPlace: boolean;
  readonly missing: readonly string[];
  readonly unexpected: readonly string[];
  /** `open` says in words what is not refused below IP; empty where nothing is left open. */
  readonly layer2: { readonly place: string; readonly open: string };
  readonly notes: readonly string[];
  /** The first line of what is printed for people. */
  readonly summary: string;
};

type Print = (text: string) => void;

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
  const backends = [nftables(run), iptables(run, kernelHasIpv6)];
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

/** A host whose containers would reach the instance's own role, because there are no rules and none can be made: closed by routing. */
async function closeIfOpen(run: Run, backends: readonly Backend[], rules: Ruleset, log: Log): Promise<void> {
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

async function apply(
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
  if (layer2.kind === "open") changed = (await removeFrameFilters(run)) || changed;
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

function describeLayer2(layer2: Layer2): string {
  if (layer2.kind === "open") return `LAYER 2 OPEN: ${openWithout} (${layer2.why})`;
  const { place, open } = layer2.filter;
  return open === "" ? `layer 2: ${place}` : `layer 2: ${place}, BUT ${open}`;
}

function frameFilters(run: Run): readonly FrameFilter[] {
  return [nftBridge(run)];
}

/** Whatever put them there. A host that cannot have such rules has none. */
async function removeFrameFilters(run: Run): Promise<boolean> {
  let removed = false;
  for (const filter of frameFilters(run)) removed = (await filter.remove()) || removed;
  return removed;
}

function describe(settings: Settings): string {
  const { metadataIpv4, metadataIpv6, metadataPort, proxyAddress, proxyPort, interfaces } = settings;
  const to = Object.values(proxyAddress).join(" ");
  const from = `${metadataIpv4}${settings.ipv6 === "off" ? "" : ` ${metadataIpv6}`} port ${metadataPort}`;
  return `${interfaces.join(" ")}: ${from} -> ${to === "" ? "" : `${to} `}port ${proxyPort}`;
}

async function status(
  wanted: "auto" | Backend["name"],
  { settings, rules }: Prepared,
  backends: readonly Backend[],
  options: FirewallOptions,
  print: Print,
  run: Run,
): Promise<ExitCode> {
  const { backend, reason } = await chooseBackend(wanted, backends, rules);
  const comparison = await backend.compare(rules);
  const guard = rules.guarded === undefined ? [] : await missingFromGuard(run, rules.guarded);
  const layer2 = await chooseLayer2(run, settings, frameFilters(run));
  const frames = layer2.kind === "filtered" ? await layer2.filter.compare(layer2.sources) : undefined;
  const found: Comparison = {
    present: comparison.present,
    missing: [...guard, ...comparison.missing, ...(frames?.missing ?? [])],
    unexpected: [...comparison.unexpected, ...(frames?.unexpected ?? [])],
  };
  const remarks = [...sharedPorts(settings), ...(await notes(run, settings, backend.name))];
  const ok = inPlace(found);
  const summary = `${backend.name}: ${backend.place} ${ok ? "in place" : "NOT IN PLACE"} (${describe(settings)}); ${describeLayer2(layer2)}`;
  if (options.json) {
    const { missing, unexpected } = found;
    print(
      JSON.stringify({
        backend: backend.name,
        reason,
        inPlace: ok,
        missing,
        unexpected,
        layer2: layer2Json(layer2),
        notes: remarks,
        summary,
      } satisfies FirewallStatus),
    );
  } else {
    const lines = [
      ...found.missing.map((text) => `  missing: ${text}`),
      ...found.unexpected.map((text) => `  not ours: ${text}`),
      ...remarks.map((text) => `  note: ${text}`),
      ...(ok ? [] : ["Run: ec2metaproxy firewall apply"]),
    ];
    print([summary, ...lines].join("\n"));
  }
  return ok ? exitCodes.ok : exitCodes.failed;
}

function layer2Json(layer2: Layer2): FirewallStatus["layer2"] {
  return layer2.kind === "open"
    ? { place: "", open: `${openWithout} (${layer2.why})` }
    : { place: layer2.filter.place, open: layer2.filter.open };
}

/** Every place where rules of ours can be, whatever the settings say now: they may have said something else when they were applied. */
function everywhere(run: Run): readonly Backend[] {
  const variants = (["", "-nft", "-legacy"] as const).map((variant) => iptables(run, kernelHasIpv6, variant));
  return [nftables(run), ...variants];
}

/** After a change of backend, the rules of the other one. Ours are in force already, so there is no moment without. */
async function removeOthers(run: Run, backend: Backend): Promise<void> {
  for (const other of everywhere(run)) if (other.name !== backend.name) await other.remove();
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
