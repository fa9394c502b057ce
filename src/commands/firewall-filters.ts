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

/** Every place where rules of ours can be, whatever the settings say now: they may have said something else when they were applied. */
export function everywhere(run: Run): readonly Backend[] {
  const variants = (["", "-nft", "-legacy"] as const).map((variant) => iptables(run, kernelHasIpv6, variant));
  return [nftables(run), ...variants];
}

/** After a change of backend, the rules of the other one. Ours are in force already, so there is no moment without. */
export async function removeOthers(run: Run, backend: Backend): Promise<void> {
  for (const other of everywhere(run)) if (other.name !== backend.name) await other.remove();
}

/** The filters for frames, in the order of preference. */
export function frameFilters(run: Run): readonly FrameFilter[] {
  return [nftBridge(run, "by kind"), nftBridge(run, "by name"), ebtables(run)];
}

/** Those of another choice. A host that cannot have such rules has none. */
export async function removeFrameFilters(run: Run, keep: string | undefined): Promise<boolean> {
  let removed = false;
  for (const filter of frameFilters(run)) {
    if (filter.place !== keep) removed = (await filter.remove()) || removed;
  }
  return removed;
}
