import { access } from "node:fs/promises";
import { canonicalAddress } from "../config/address.ts";

/** Whether the kernel supports IPv6. The file exists even if sysctl disables IPv6 on every interface. */
export function kernelHasIpv6(): Promise<boolean> {
  return access("/proc/net/if_inet6").then(
    () => true,
    () => false,
  );
}

/**
 * The host's own addresses in the output of `ip addr show`, each once. The link-local addresses of interfaces
 * with a master (such as bridge ports) are left out: no packet reaches them, and they come and go with every
 * container.
 */
export function parseAddresses(listing: string): readonly string[] {
  const addresses = new Set<string>();
  let enslaved = false;
  for (const line of listing.split("\n")) {
    if (/^\d+: /.test(line)) enslaved = / master \S/.test(line);
    const text = /^\s+inet6? ([0-9a-f.:]+)/i.exec(line)?.[1];
    if (text === undefined || (enslaved && /^fe[89ab]/i.test(text))) continue;
    const address = canonicalAddress(text);
    if (address !== undefined) addresses.add(address);
  }
  return [...addresses];
}
