import { read } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { endianness } from "node:os";
import { addressBytes } from "../config/address.ts";

/** One end of a connection. The address is canonical. */
export type End = { readonly address: string; readonly port: number };

/** The text to look for in a socket table to find one connection, seen from the client's side. */
export type Pattern = {
  /** `: 020011AC:C350 `, the column after the slot number. */
  readonly local: Buffer;
  /** `:C350 00000000:0000 0A `: a listening socket on the same port, at any address. */
  readonly listener: Buffer;
  /** `FEA9FEA9:0050 01 `, remote address and state. One of these must match. */
  readonly remotes: readonly Buffer[];
  /** The same for a connection that the client has closed. */
  readonly closedRemotes: readonly Buffer[];
};

/** What a pass over a table has found. */
export type Found = {
  readonly established: ReadonlySet<Pattern>;
  /** Connections that the client was the first to close. */
  readonly closed: ReadonlySet<Pattern>;
  /** The patterns whose local port has a listening socket. */
  readonly listening: ReadonlySet<Pattern>;
};

/** TCP_ESTABLISHED (include/net/tcp_states.h). A half-closed client has another state and is refused. */
const established = "01";
/** TCP_FIN_WAIT1 and TCP_FIN_WAIT2: the client has closed its side. TCP_TIME_WAIT: then the server, too. */
const closedStates = ["04", "05", "06"];
/** TCP_LISTEN. */
const listen = "0A";

/**
 * The kernel returns at most a page per read, whatever the buffer. Pages are up to 64 KiB on arm64 kernels.
 */
const chunkBytes = 16 * 1024;

/**
 * What to look for in `tcp` (AF_INET sockets) or `tcp6` (AF_INET6 sockets, where IPv4 peers are written as
 * mapped addresses). Undefined if the connection cannot be in that table.
 */
export function patternFor(table: "tcp" | "tcp6", local: End, remotes: readonly End[]): Pattern | undefined {
  const isIpv6 = local.address.includes(":");
  if (table === "tcp" && isIpv6) return undefined;
  const sameFamily = remotes.filter(({ address }) => address.includes(":") === isIpv6);
  const column = (end: End) => socketColumn(end, table === "tcp6");
  const unspecified = column({ address: table === "tcp6" ? "::" : "0.0.0.0", port: 0 });
  return {
    local: Buffer.from(`: ${column(local)} `, "latin1"),
    listener: Buffer.from(`:${portColumn(local.port)} ${unspecified} ${listen} `, "latin1"),
    remotes: sameFamily.map((end) => Buffer.from(`${column(end)} ${established} `, "latin1")),
    closedRemotes: sameFamily.flatMap((end) =>
      closedStates.map((state) => Buffer.from(`${column(end)} ${state} `, "latin1")),
    ),
  };
}

/**
 * Address and port as /proc/net/tcp and tcp6 print them: each 32-bit word of the address as a number in host
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
 * Reads a socket table in chunks until every pattern is found or the table ends. The kernel lists the
 * listening sockets first (net/ipv4/tcp_ipv4.c tcp_get_idx), so all of them have been read before the first
 * established one. An accepted connection is in the same table as its listening socket, because it inherits
 * the family. `limit` bounds the concurrent reads over all tables, because the kernel may walk its whole
 * table within one read.
 */
export async function findSockets(
  table: FileHandle,
  patterns: readonly Pattern[],
  limit: (read: () => Promise<number>) => Promise<number>,
): Promise<Found> {
  const established = new Set<Pattern>();
  const closed = new Set<Pattern>();
  const listening = new Set<Pattern>();
  const buffer = Buffer.allocUnsafe(2 * chunkBytes);
  let kept = 0;
  while (established.size < patterns.length) {
    const count = await limit(() => readInto(table, buffer, kept));
    if (count === 0) break;
    const lineEnd = buffer.subarray(0, kept + count).lastIndexOf(0x0a) + 1;
    const lines = buffer.subarray(0, lineEnd);
    for (const pattern of patterns) {
      if (lines.includes(pattern.listener)) listening.add(pattern);
      if (!established.has(pattern) && hasSocket(lines, pattern.local, pattern.remotes))
        established.add(pattern);
      if (hasSocket(lines, pattern.local, pattern.closedRemotes)) closed.add(pattern);
    }
    // The last line may be incomplete.
    buffer.copyWithin(0, lineEnd, kept + count);
    kept = kept + count - lineEnd;
    if (kept > chunkBytes) throw new Error("reading a socket table: a line of more than 16 KiB");
  }
  return { established, closed, listening };
}

function hasSocket(lines: Buffer, local: Buffer, remotes: readonly Buffer[]): boolean {
  for (let at = lines.indexOf(local); at !== -1; at = lines.indexOf(local, at + 1)) {
    const from = at + local.length;
    // One local port can have several peers, so a line that does not match does not end the search.
    if (remotes.some((remote) => remote.equals(lines.subarray(from, from + remote.length)))) return true;
  }
  return false;
}

/** The callback API: a table of 20,000 sockets takes 750 reads, and promises cost more than they do. */
function readInto(table: FileHandle, buffer: Buffer, offset: number): Promise<number> {
  return new Promise((resolve, reject) => {
    read(table.fd, buffer, offset, chunkBytes, null, (error, count) => {
      if (error === null) resolve(count);
      else reject(error);
    });
  });
}
