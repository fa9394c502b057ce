import { isIPv4, isIPv6, SocketAddress } from "node:net";

/**
 * The one text form in which an address is a key: dotted IPv4, or IPv6 as RFC 5952 writes it.
 * A zone is dropped, and an IPv4-mapped IPv6 address is the IPv4 address that it maps: a dual-stack listener reports
 * `::ffff:172.17.0.2` for the container that the engine knows as `172.17.0.2`. Undefined where the text is no address.
 */
export function canonicalAddress(text: string): string | undefined {
  if (isIPv4(text)) return text;
  const zone = text.indexOf("%");
  const bare = zone === -1 ? text : text.slice(0, zone);
  if (!isIPv6(bare)) return undefined;
  const { address } = new SocketAddress({ address: bare, family: "ipv6" });
  const lower = address.toLowerCase();
  if (!lower.startsWith(mappedPrefix)) return lower;
  const mapped = lower.slice(mappedPrefix.length);
  // `::ffff:0:1` also begins with the prefix, and is an IPv6 address in its own right.
  return isIPv4(mapped) ? mapped : lower;
}

/** The bytes of a canonical address in network order: 4 or 16. */
export function addressBytes(canonical: string): Uint8Array {
  if (isIPv4(canonical)) return Uint8Array.from(canonical.split("."), Number);
  const bytes = new Uint8Array(16);
  const [head = "", tail] = canonical.split("::");
  const first = groups(head);
  const last = tail === undefined ? [] : groups(tail);
  const words = [...first, ...new Array<number>(8 - first.length - last.length).fill(0), ...last];
  for (const [index, word] of words.entries()) {
    bytes[2 * index] = word >> 8;
    bytes[2 * index + 1] = word & 0xff;
  }
  return bytes;
}

/** `2001:db8:1.2.3.4` has its last two groups in dotted form: inet_ntop writes IPv4-compatible addresses so. */
function groups(text: string): number[] {
  if (text === "") return [];
  return text.split(":").flatMap((group) => {
    if (!group.includes(".")) return [Number.parseInt(group, 16)];
    const [a = 0, b = 0, c = 0, d = 0] = group.split(".").map(Number);
    return [(a << 8) | b, (c << 8) | d];
  });
}

const mappedPrefix = "::ffff:";
