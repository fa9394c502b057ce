import type { HostSources } from "./bridge-table.ts";
import { type Run, whyNot } from "./command.ts";
import type { FrameFilter } from "./frame-filter.ts";
import { parseAddresses } from "./host-addresses.ts";
import type { Settings } from "./settings.ts";

/** What a neighbour can do where there is no such filter, in the words that `status` and `check` print. */
export const openWithout = "a neighbour with NET_RAW can speak as the host on layer 2";

export type Layer2 =
  | { readonly kind: "filtered"; readonly filter: FrameFilter; readonly sources: HostSources }
  | { readonly kind: "open"; readonly why: string };

/** The first filter that this host takes. Without one the rules for packets still hold: none is no failure, but it is said. */
export async function chooseLayer2(
  run: Run,
  settings: Settings,
  filters: readonly FrameFilter[],
): Promise<Layer2> {
  if (settings.layer2 === "off") return { kind: "open", why: "LAYER2=off" };
  const sources = await sourcesOf(run, settings);
  if (typeof sources === "string") return { kind: "open", why: sources };
  const reasons: string[] = [];
  for (const filter of filters) {
    const reason = await filter.obstacle(sources);
    if (reason === undefined) return { kind: "filtered", filter, sources };
    reasons.push(reason);
  }
  return { kind: "open", why: reasons.join("; ") };
}

/** Or why they are not known. */
async function sourcesOf(run: Run, settings: Settings): Promise<HostSources | string> {
  const outcome = await run("ip", ["addr", "show"]);
  if (outcome.kind === "missing" || outcome.exitCode !== 0) return whyNot("ip", outcome);
  return [...new Set([settings.metadataIpv4, settings.metadataIpv6, ...parseAddresses(outcome.stdout)])];
}
