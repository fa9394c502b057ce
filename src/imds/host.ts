import { canonicalAddress } from "../config/address.ts";
import type { Connection } from "./connection.ts";

/** The names under which EC2 itself serves metadata. */
const metadataHosts = new Set([
  "169.254.169.254",
  "fd00:ec2::254",
  "instance-data",
  "instance-data.ec2.internal",
]);

/**
 * Whether a Host header names the metadata service, or the address that the request was sent to. This stops
 * DNS rebinding: a web page in a browser sends its own name. HTTP/1.0 requests may lack the header; no
 * browser sends those.
 */
export function isMetadataHost(
  host: string | undefined,
  connection: Pick<Connection, "localAddress">,
): boolean {
  if (host === undefined || host === "169.254.169.254") return true;
  const match = /^(?:\[(?<v6>[0-9a-fA-F:.]+)\]|(?<name>[^:[\]]+))(?::\d{1,5})?$/.exec(host);
  const bare = match?.groups?.v6 ?? match?.groups?.name;
  if (bare === undefined) return false;
  const address = canonicalAddress(bare);
  if (address === undefined) return metadataHosts.has(bare.toLowerCase().replace(/\.$/, ""));
  return metadataHosts.has(address) || address === canonicalAddress(connection.localAddress);
}
