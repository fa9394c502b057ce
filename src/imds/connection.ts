import type { Socket } from "node:net";
import { canonicalAddress } from "../config/address.ts";
import type { Lookup } from "../containers/directory.ts";

/** What is remembered about one client connection, so that a kept-alive one pays for its proof and its token once. */
export type Connection = {
  /** Canonical; undefined where the kernel named no address, e.g. on a connection that is gone already. */
  readonly address: string | undefined;
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly localAddress: string;
  readonly localPort: number;
  /** The directory's entry that this connection was proven to come from; compared by identity, so a change voids it. */
  proven: Lookup | undefined;
  /** The session token that was verified last, for which entry, and the second at which it expires. */
  token: { readonly text: string; readonly lookup: Lookup; readonly expiresAt: number } | undefined;
};

/** The connections that are open, by socket. */
export class Connections {
  readonly #bySocket = new WeakMap<Socket, Connection>();

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
      proven: undefined,
      token: undefined,
    };
    this.#bySocket.set(socket, connection);
    return connection;
  }
}
