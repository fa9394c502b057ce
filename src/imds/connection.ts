import type { Socket } from "node:net";
import { canonicalAddress } from "../config/address.ts";
import type { Lookup } from "../containers/directory.ts";

/** State of one client connection, so that proof and token are checked once for all requests on it. */
export type Connection = {
  /** Canonical; undefined where the kernel named none, e.g. because the connection is already closed. */
  readonly address: string | undefined;
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly localAddress: string;
  readonly localPort: number;
  /** Accepted right after the start: the client may have waited in the socket's queue for long. */
  readonly isEarly: boolean;
  /** Whether the client has closed its side, or reset the connection. */
  readonly end: () => "open" | "closed" | "reset";
  /** Bytes of the answers that the access log has reported so far. */
  bytesReported: number;
  /**
   * The directory entry that the connection was proven to come from, by its socket. Compared by identity, so
   * a change voids the proof.
   */
  proven: Lookup | undefined;
  /**
   * The session token that was verified last, the directory entry it is valid for, and when it expires (epoch
   * seconds).
   */
  token: { readonly text: string; readonly lookup: Lookup; readonly expiresAt: number } | undefined;
};

/** How long after the start a connection counts as one that waited for it. */
const earlyMs = 5_000;

/** Connection state by socket. */
export class Connections {
  readonly #now: () => number;
  readonly #startedAt: number;
  readonly #bySocket = new WeakMap<Socket, Connection>();

  /** @param now a monotonic clock in milliseconds */
  constructor(now: () => number) {
    this.#now = now;
    this.#startedAt = now();
  }

  of(socket: Socket): Connection {
    const known = this.#bySocket.get(socket);
    if (known !== undefined) return known;
    const { remoteAddress = "", remotePort = 0, localAddress = "", localPort = 0 } = socket;
    const connection: Connection = {
      address: canonicalAddress(remoteAddress),
      remoteAddress,
      remotePort,
      localAddress,
      localPort,
      isEarly: this.#now() - this.#startedAt < earlyMs,
      end: () => (socket.readableEnded ? "closed" : socket.destroyed ? "reset" : "open"),
      bytesReported: 0,
      proven: undefined,
      token: undefined,
    };
    this.#bySocket.set(socket, connection);
    return connection;
  }
}
