import { type ExitCode, exitCodes } from "../errors.ts";
import { type Backend, type Comparison, chooseBackend, inPlace } from "../firewall/backend.ts";
import type { Run } from "../firewall/command.ts";
import { chooseLayer2, type Layer2, openWithout } from "../firewall/layer2.ts";
import { notes } from "../firewall/notes.ts";
import { sharedPorts } from "../firewall/ports.ts";
import { missingFromGuard } from "../firewall/route-guard.ts";
import type { Settings } from "../firewall/settings.ts";
import { frameFilters } from "./firewall-filters.ts";
import type { FirewallOptions, Print } from "./firewall-options.ts";
import type { Prepared } from "./firewall-settings.ts";

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

export async function status(
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

export function describeLayer2(layer2: Layer2): string {
  if (layer2.kind === "open") return `LAYER 2 OPEN: ${openWithout} (${layer2.why})`;
  const { place, open } = layer2.filter;
  return open === "" ? `layer 2: ${place}` : `layer 2: ${place}, BUT ${open}`;
}

export function describe(settings: Settings): string {
  const { metadataIpv4, metadataIpv6, metadataPort, proxyAddress, proxyPort, interfaces } = settings;
  const to = Object.values(proxyAddress).join(" ");
  const from = `${metadataIpv4}${settings.ipv6 === "off" ? "" : ` ${metadataIpv6}`} port ${metadataPort}`;
  return `${interfaces.join(" ")}: ${from} -> ${to === "" ? "" : `${to} `}port ${proxyPort}`;
}
