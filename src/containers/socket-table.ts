import { read } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { endianness } from "node:os";
import { addressBytes } from "../config/address.ts";

/** An end of a connection; the address is canonical. */
export type End = { readonly address: string; readonly port: number };

/** One connection to look for in a socket table, seen from the client's side. */
export type Sought = {
  /** `: 020011AC:C350 `, the column after the slot number. */
  readonly local: Buffer;
  /** `:C350 00000000:0000 0A `: a listening socket on the same port, at whichever address. */
  readonly listener: Buffer;
  /** `FEA9FEA9:0050 01 `, remote address and state: any of these will do. */
  readonly remotes: readonly Buffer[];
};

/** What a look at a table found of the connections that were sought. */
export type Found = {
  readonly established: ReadonlySet<Sought>;
  /** Those whose local port has a listening socket. */
  readonly listening: ReadonlySet<Sought>;
};

/** The kernel's name for TCP_ESTABLISHED in these files (include/net/tcp_states.h). A half-closed client is not in it, and is refused. */
const established = "01";
/** TCP_LISTEN. */
const listen = "0A";

/** The kernel gives a page at most for each read, whatever it is offered; arm64 kernels may have pages of 64 KiB. */
const chunkBytes = 16 * 1024;

/** What to look for in `tcp` (AF_INET sockets) or `tcp6` (AF_INET6, where IPv4 peers are written as mapped addresses); undefined where it cannot be in there. */
export function sought(table: "tcp" | "tcp6", local: End, remotes: readonly End[]): Sought | undefined {
  const isIpv6 = local.address.includes(":");
  if (table === "tcp" && isIpv6) return undefined;
  const sameFamily = remotes.filter(({ address }) => address.includes(":") === isIpv6);
  const column = (end: End) => socketColumn(end, table === "tcp6");
  const nobody = column({ address: table === "tcp6" ? "::" : "0.0.0.0", port: 0 });
  return {
    local: Buffer.from(`: ${column(local)} `, "latin1"),
    listener: Buffer.from(`:${portColumn(local.port)} ${nobody} ${listen} `, "latin1"),
    remotes: sameFamily.map((end) => Buffer.from(`${column(end)} ${established} `, "latin1")),
  };
}

/**
 * Address and port as /proc/net/tcp and tcp6 write them: each 32-bit word of the address printed as a number of this machine's
 * byte order, the port as a number (net/ipv4/tcp_ipv4.c get_tcp4_sock, net/ipv6/tcp_ipv6.c get_tcp6_sock).
 */
export function socketColumn(end: End, asIpv6: boolean, order = endianness()): string {
  const bytes = addressBytes(end.address);
  const wide = asIpv6 && bytes.length === 4 ? Buffer.from([...mappedPrefix, ...bytes]) : Buffer.from(bytes);
  let words = "";
  for (let at = 0; at < wide.length; at += 4) {
    const word = order === "LE" ? wide.readUInt32LE(at) : wide.readUInt32BE(at);
    words += word.toString(16).toUpperCase().padStart(8, "0");
  }
  return `${words}:${portColumn(end.port)}`;
}

function portColumn(port: number): string {
  return port.toString(16).toUpperCase().padStart(4, "0");
}

const mappedPrefix = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/**
 * Reads a socket table in pieces until each of the sought is found or the table ends. The kernel lists the listening sockets first
 * (net/ipv4/tcp_ipv4.c tcp_get_idx), so those are all read by the time that the first established one is. A connection that a listening
 * socket accepted is in the same table as that socket: it inherits the family.
 * `inTurn` bounds how many reads are under way at once, over all tables: the kernel may walk its whole table within one read.
 */
export async function findSockets(
  table: FileHandle,
  wanted: readonly Sought[],
  inTurn: (read: () => Promise<number>) => Promise<number>,
): Promise<Found> {
  const established = new Set<Sought>();
  const listening = new Set<Sought>();
  const buffer = Buffer.allocUnsafe(2 * chunkBytes);
  let kept = 0;
  while (established.size < wanted.length) {
    const count = await inTurn(() => readInto(table, buffer, kept));
    if (count === 0) break;
    const lineEnd = buffer.subarray(0, kept + count).lastIndexOf(0x0a) + 1;
    const lines = buffer.subarray(0, lineEnd);
    for (const one of wanted) {
      if (lines.includes(one.listener)) listening.add(one);
      if (!established.has(one) && hasSocket(lines, one)) established.add(one);
    }
    // The last line may be in two pieces.
    kept = buffer.copyWithin(0, lineEnd, kept + count) && kept + count - lineEnd;
    if (kept > chunkBytes) throw new Error("reading a socket table: a line of more than 16 KiB");
  }
  return { established, listening };
}

function hasSocket(lines: Buffer, { local, remotes }: Sought): boolean {
  for (let at = lines.indexOf(local); at !== -1; at = lines.indexOf(local, at + 1)) {
    const from = at + local.length;
    // One local port can be used towards several peers, so a line that does not fit does not end the search.
    if (remotes.some((remote) => remote.equals(lines.subarray(from, from + remote.length)))) return true;
  }
  return false;
}

/** The callback form: a table of 20,000 sockets takes 750 reads, and a FileHandle's promises cost more than they do. */
function readInto(table: FileHandle, buffer: Buffer, offset: number): Promise<number> {
  return new Promise((resolve, reject) => {
    read(table.fd, buffer, offset, chunkBytes, null, (error, count) => {
      if (error === null) resolve(count);
      else reject(error);
    });
  });
}
