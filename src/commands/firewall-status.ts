import { type Backend, type Comparison, chooseBackend, inPlace } from "../firewall/backend.ts";
import { chooseLayer2, type Layer2, openWithout } from "../firewall/layer2.ts";
import { notes } from "../firewall/notes.ts";
import { sharedPorts } from "../firewall/ports.ts";
import { missingFromGuard } from "../firewall/route-guard.ts";
import type { Settings } from "../firewall/settings.ts";
import type { FirewallPlan } from "./firewall-plan.ts";

/** What `firewall status --json` prints. */
export type FirewallStatus = {
  readonly backend: Backend["name"];
  /** Why this backend. */
  readonly reason: string;
  readonly inPlace: boolean;
  readonly missing: readonly string[];
  readonly unexpected: readonly string[];
  /** `open` says in words what is not refused below IP; empty where nothing is left open. */
  readonly layer2: { readonly place: string; readonly open: string };
  readonly notes: readonly string[];
  /** One line, the first one that is printed for people. */
  readonly summary: string;
};

/** Compares the rules in force with those of the settings. Changes nothing. */
export async function firewallStatus(plan: FirewallPlan): Promise<FirewallStatus> {
  const { settings, rules, run } = plan;
  const { backend, reason } = await chooseBackend(plan.wanted, plan.backends, rules);
  const comparison = await backend.compare(rules);
  const guard = rules.guarded === undefined ? [] : await missingFromGuard(run, rules.guarded);
  const layer2 = await chooseLayer2(run, settings, plan.frames);
  const frames = layer2.kind === "filtered" ? await layer2.filter.compare(layer2.sources) : undefined;
  const found: Comparison = {
    present: comparison.present,
    missing: [...guard, ...comparison.missing, ...(frames?.missing ?? [])],
    unexpected: [...comparison.unexpected, ...(frames?.unexpected ?? [])],
  };
  const ok = inPlace(found);
  return {
    backend: backend.name,
    reason,
    inPlace: ok,
    missing: found.missing,
    unexpected: found.unexpected,
    layer2: layer2Json(layer2),
    notes: [...sharedPorts(settings), ...(await notes(run, settings, backend.name))],
    summary: `${backend.name}: ${backend.place} ${ok ? "in place" : "NOT IN PLACE"} (${describe(settings)}); ${describeLayer2(layer2)}`,
  };
}

function layer2Json(layer2: Layer2): FirewallStatus["layer2"] {
  return layer2.kind === "open"
    ? { place: "", open: `${openWithout} (${layer2.why})` }
    : { place: layer2.filter.place, open: layer2.filter.open };
}

export function describeLayer2(layer2: Layer2): string {
  if (layer2.kind === "open") return `LAYER 2 OPEN: ${openWithout} (${layer2.why})`;
  const { place, open } = layer2.filter;
  return open === "" ? `layer 2: ${place}` : `layer 2: ${place}, BUT ${open}`;
}

/** The redirect in words: from which interfaces and addresses, to where. */
export function describe(settings: Settings): string {
  const { metadataIpv4, metadataIpv6, metadataPort, proxyAddress, proxyPort, interfaces } = settings;
  const to = Object.values(proxyAddress).join(" ");
  const from = `${metadataIpv4}${settings.ipv6 === "off" ? "" : ` ${metadataIpv6}`} port ${metadataPort}`;
  return `${interfaces.join(" ")}: ${from} -> ${to === "" ? "" : `${to} `}port ${proxyPort}`;
}
