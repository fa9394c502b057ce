import type { Comparison } from "./backend.ts";
import { mustRun, type Run } from "./command.ts";
import { parseAddresses } from "./host-addresses.ts";
import type { Settings } from "./settings.ts";

/**
 * The addresses that no container may use as a source: the metadata addresses and the host's own. IPv6 in RFC
 * 5952 form.
 */
export type HostSources = readonly string[];

/** A filter below IP: it keeps containers from sending frames with a source address of the host. */
export type FrameFilter = {
  /** Its name in the output of `status`. */
  readonly place: string;
  /** What it cannot filter; empty if nothing. */
  readonly open: string;
  render(sources: HostSources): string;
  /**
   * Why this host cannot use the filter; undefined if it can. Changes nothing.
   * @throws OperatorError 69 for a temporary failure, which says nothing about the host
   */
  obstacle(sources: HostSources): Promise<string | undefined>;
  compare(sources: HostSources): Promise<Comparison>;
  /** All or nothing. @returns a function that restores the previous rules */
  apply(sources: HostSources): Promise<() => Promise<void>>;
  /** True if there was something to remove. */
  remove(): Promise<boolean>;
};

/** What a neighbour can do without such a filter, as `status` and `check` print it. */
export const openWithout = "a neighbour with NET_RAW can speak as the host on layer 2";

export type Layer2 =
  | { readonly kind: "filtered"; readonly filter: FrameFilter; readonly sources: HostSources }
  | { readonly kind: "open"; readonly why: string };

/**
 * Chooses the first filter that this host can use. Having none is not an error, because the packet rules
 * still hold, but it is reported.
 * @throws OperatorError 69 for a temporary failure: it must not remove a filter that is in force
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
