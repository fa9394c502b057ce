import type { HostSources } from "./bridge-table.ts";
import { mustRun, type Run } from "./command.ts";
import type { FrameFilter } from "./frame-filter.ts";
import { parseAddresses } from "./host-addresses.ts";
import type { Settings } from "./settings.ts";

/** What a neighbour can do where there is no such filter, in the words that `status` and `check` print. */
export const openWithout = "a neighbour with NET_RAW can speak as the host on layer 2";

export type Layer2 =
  | { readonly kind: "filtered"; readonly filter: FrameFilter; readonly sources: HostSources }
  | { readonly kind: "open"; readonly why: string };

/**
 * The first filter that this host takes. Without one the rules for packets still hold: none is no failure, but it is said.
 * @throws OperatorError 69 where it cannot be found out at the moment; a filter that is in force must not go for that
 */
export async function chooseLayer2(
  run: Run,
  settings: Settings,
  filters: readonly FrameFilter[],
): Promise<Layer2> {
  if (settings.layer2 === "off") return { kind: "open", why: "LAYER2=off" };
  const listing = await mustRun(run, "reading the host's addresses", "ip", ["addr", "show"]);
  const { metadataIpv4, metadataIpv6 } = settings;
  const sources = [...new Set([metadataIpv4, metadataIpv6, ...parseAddresses(listing)])];
  const reasons: string[] = [];
  for (const filter of filters) {
    const reason = await filter.obstacle(sources);
    if (reason === undefined) return { kind: "filtered", filter, sources };
    reasons.push(reason);
  }
  return { kind: "open", why: reasons.join("; ") };
}
