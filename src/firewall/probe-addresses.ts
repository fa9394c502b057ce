import { addressBytes, canonicalAddress } from "../config/address.ts";
import { type Listed, parseListing } from "./ip-listing.ts";

/** A network of a bridge. */
export type Network = {
  /** The host's address in it. */
  readonly address: string;
  readonly prefix: number;
  /** `172.17.0.0/16`. */
  readonly network: string;
};

export type Networks = { readonly ipv4: Network | undefined; readonly ipv6: Network | undefined };

/**
 * The first network of each family, in the output of `ip -j addr show dev BRIDGE`.
 * @throws if it is not a JSON list
 */
export function networksOf(listing: string): Networks {
  const addresses = parseListing(listing).flatMap(({ addr_info: list }) =>
    Array.isArray(list) ? (list as readonly unknown[]).filter(isListed) : [],
  );
  const first = (family: string): Network | undefined => {
    for (const info of addresses) {
      const { local, prefixlen: prefix, scope } = info;
      if (info.family !== family || scope !== "global") continue;
      if (typeof local !== "string" || typeof prefix !== "number") continue;
      const address = canonicalAddress(local);
      if (address === undefined) continue;
      return { address, prefix, network: `${textOf(masked(addressBytes(address), prefix, 0))}/${prefix}` };
    }
    return undefined;
  };
  return { ipv4: first("inet"), ipv6: first("inet6") };
}

/**
 * The last addresses of a network, the very last one (IPv4's broadcast address) and the host's own left out.
 * Engines give out addresses from the beginning.
 */
export function candidates(gateway: string, prefix: number, count: number): readonly string[] {
  const bytes = masked(addressBytes(gateway), prefix, 0xff);
  const first = BigInt(`0x${hex(masked(addressBytes(gateway), prefix, 0))}`);
  const last = BigInt(`0x${hex(bytes)}`);
  const found: string[] = [];
  for (let at = last - 1n; at > first && found.length < count; at -= 1n) {
    const text = textOf(Uint8Array.from(Buffer.from(at.toString(16).padStart(2 * bytes.length, "0"), "hex")));
    if (text !== gateway) found.push(text);
  }
  return found;
}

/** The bits after the prefix are all set (0xff) or all cleared (0). */
function masked(bytes: Uint8Array, prefix: number, rest: 0 | 0xff): Uint8Array {
  return bytes.map((byte, index) => {
    const kept = Math.min(8, Math.max(0, prefix - 8 * index));
    const mask = (0xff << (8 - kept)) & 0xff;
    return (byte & mask) | (rest & ~mask & 0xff);
  });
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

function textOf(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  const groups = hex(bytes).match(/.{4}/g) ?? [];
  return canonicalAddress(groups.join(":")) ?? "";
}

function isListed(value: unknown): value is Listed {
  return typeof value === "object" && value !== null;
}
