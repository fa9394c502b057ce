import { isIPv4, isIPv6, SocketAddress } from "node:net";

/**
 * The one text form in which an address is used as a key: dotted IPv4, or IPv6 as inet_ntop(3) writes it.
 * That is RFC 5952, except that `::1.2.3.4` keeps its dotted end. A zone is dropped. An IPv4-mapped IPv6
 * address becomes the IPv4 address, because a dual-stack listener reports `::ffff:172.17.0.2` for the
 * container that the engine knows as `172.17.0.2`. Undefined if the text is not an address.
 *
 * ipaddr.js cannot replace this: it reads `::172.17.0.2`, another address, as `::ffff:172.17.0.2` (2.5.0),
 * which would give its holder the identity of the container at 172.17.0.2. It also accepts octal, hex and
 * short IPv4 (`010.0.0.5`, `0x0a.5`, `2852039166`), so it would still need the checks below in front of it.
 */
export function canonicalAddress(text: string): string | undefined {
  if (isIPv4(text)) return text;
  const [bare = ""] = text.split("%", 1);
  if (!isIPv6(bare)) return undefined;
  const { address } = new SocketAddress({ address: bare, family: "ipv6" });
  if (!address.startsWith(mappedPrefix)) return address;
  const mapped = address.slice(mappedPrefix.length);
  // `::ffff:0:1` also starts with the prefix, but it is an IPv6 address in its own right.
  return isIPv4(mapped) ? mapped : address;
}

const mappedPrefix = "::ffff:";

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

/** The 16-bit groups of part of an address. Its end may be dotted: `::1.2.3.4`. */
function groups(text: string): number[] {
  if (text === "") return [];
  return text.split(":").flatMap((group) => {
    if (!group.includes(".")) return [Number.parseInt(group, 16)];
    const [a = 0, b = 0, c = 0, d = 0] = group.split(".").map(Number);
    return [(a << 8) | b, (c << 8) | d];
  });
}
