import type { Backend } from "../firewall/backend.ts";
import type { Run } from "../firewall/command.ts";
import { ebtables } from "../firewall/ebtables.ts";
import { kernelHasIpv6 } from "../firewall/host-addresses.ts";
import { iptables } from "../firewall/iptables.ts";
import type { FrameFilter } from "../firewall/layer2.ts";
import { nftBridge } from "../firewall/nft-bridge.ts";
import { nftables } from "../firewall/nftables.ts";

/** The filters for packets, in the order of preference. */
export function backendsHere(run: Run): readonly Backend[] {
  return [nftables(run), iptables(run, kernelHasIpv6)];
}

/**
 * Every filter that may hold our rules, whatever the settings are now: they may have changed since `apply`.
 */
export function everyBackend(run: Run): readonly Backend[] {
  const variants = (["", "-nft", "-legacy"] as const).map((variant) => iptables(run, kernelHasIpv6, variant));
  return [nftables(run), ...variants];
}

/**
 * Removes the previous backend's rules after a change of backend. The new ones are in force, so there is no
 * gap.
 */
export async function removeOthers(run: Run, backend: Backend): Promise<void> {
  for (const other of everyBackend(run)) if (other.name !== backend.name) await other.remove();
}

/** The filters for frames, in the order of preference. */
export function frameFilters(run: Run): readonly FrameFilter[] {
  return [nftBridge(run, "by kind"), nftBridge(run, "by name"), ebtables(run)];
}

/**
 * Removes our frame rules from every place but `keep`. True if there were any; a host that cannot have such
 * rules has none.
 */
export async function removeFrameFilters(
  filters: readonly FrameFilter[],
  keep: string | undefined,
): Promise<boolean> {
  let removed = false;
  for (const filter of filters) {
    if (filter.place !== keep) removed = (await filter.remove()) || removed;
  }
  return removed;
}
