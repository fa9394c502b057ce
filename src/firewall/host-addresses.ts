import { isIPv4, isIPv6 } from "node:net";
import { canonicalIpv6 } from "./values.ts";

/**
 * The host's own addresses in what `ip addr show` prints, each once. Without the link-local addresses of bridge ports and
 * the like: no packet reaches such an address, and they come and go with every container.
 */
export function parseAddresses(listing: string): readonly string[] {
  const addresses = new Set<string>();
  let enslaved = false;
  for (const line of listing.split("\n")) {
    if (/^\d+: /.test(line)) enslaved = / master \S/.test(line);
    const address = /^\s+inet6? ([0-9a-f.:]+)/i.exec(line)?.[1];
    if (address === undefined || (enslaved && /^fe[89ab]/i.test(address))) continue;
    if (isIPv4(address)) addresses.add(address);
    else if (isIPv6(address)) addresses.add(canonicalIpv6(address));
  }
  return [...addresses];
}
