import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { hold, release } from "./hold.ts";

/** Work of one address that is taken before all others have had their turn: some milliseconds. */
const perTurn = 128;

/** So many bytes are as much work as a request; most requests have fewer. Headers of nothing but names cost more by the byte than by the request. */
const bytesPerRequest = 1_024;

/** To accept a connection and to set up its parser costs as much as some requests on a kept one. */
const connectionCost = 4;

/** Requests that a connection may have on their way. SDKs send the next when they have the answer; nobody's pipeline is this long. */
const pipelineDepth = 24;

/** Ending a turn costs a call back from the loop, so one that asks for this little goes on into the next: counts can be so much too high. */
const turnsAreCountedFrom = 8;

/**
 * How long an address is not read from whose one read was full of what nobody wants: 2,500 requests, or 10,000 chunks of a body. Node's
 * parser takes all of a read, wanted or not, in some tens of milliseconds; that must be a hundredth of the time at most. Less for a smaller read.
 */
const defaultPenaltyMs = 10_000;
/** libuv offers the kernel this much room for each read. */
const wholeRead = 64 * 1024;

/** What one address has: its connections, those of them that are not read from at the moment, and what it asked in this turn. */
type Share = {
  readonly address: string;
  readonly open: Set<Socket>;
  readonly held: Set<Socket>;
  turn: number;
  taken: number;
  /** Nothing is read from it until the penalty is over. */
  barred: boolean;
};

type Client = {
  readonly share: Share;
  turn: number;
  taken: number;
  pending: number;
  /** Bytes that were read from it until its last request, and how many of them came in with that one. */
  read: number;
  lastRead: number;
};

export type ShareLimits = {
  /** Connections of one address at one time. */
  readonly perAddress: number;
  /** Of all addresses together: what the process's limit of open files leaves when its own needs are met. */
  readonly total: number;
  /** Default 10 s. */
  readonly penaltyMs?: number;
};

/**
 * Shares descriptors and the event loop among addresses. A turn is one round of the loop: it reads from each connection that has something to
 * read, up to 64 kB each, which is hundreds of pipelined requests; with hundreds of connections one client alone would fill seconds.
 * So an address that has asked for more than its part of a turn is not read from until the next, and then one connection a turn.
 */
export class FairShare {
  readonly #shares = new Map<string, Share>();
  readonly #clients = new WeakMap<Socket, Client>();
  readonly #crowded = new Set<Share>();
  readonly #limits: ShareLimits;
  #open = 0;
  #turn = 0;
  #ending = false;

  constructor(limits: ShareLimits) {
    this.#limits = limits;
  }

  /** A new connection of a container. False: there is no room for it. */
  enter(socket: Socket, address: string): boolean {
    const share = this.#shares.get(address) ?? newShare(address);
    if (share.open.size >= this.#limits.perAddress) return false;
    if (this.#open >= this.#limits.total && !this.#makeRoom(share.open.size)) return false;
    this.#shares.set(address, share);
    share.open.add(socket);
    this.#open += 1;
    this.#clients.set(socket, { share, turn: 0, taken: 0, pending: 0, read: socket.bytesRead, lastRead: 0 });
    this.#work(share, socket, connectionCost);
    if (share.held.size > 0 || share.barred) this.#hold(share, socket);
    socket.once("close", () => {
      share.open.delete(socket);
      share.held.delete(socket);
      this.#open -= 1;
      this.#forget(share);
    });
    return true;
  }

  /** A request has come. False: do not answer, its connection has been ended. */
  take(socket: Socket): boolean {
    const client = this.#clients.get(socket);
    if (client === undefined || socket.destroyed) return false;
    const { share } = client;
    if (client.turn !== this.#turn) {
      client.turn = this.#turn;
      client.taken = 0;
    }
    const read = socket.bytesRead - client.read;
    if (read > 0) {
      client.read += read;
      client.lastRead = read;
    }
    this.#work(share, socket, Math.max(1, read / bytesPerRequest));
    client.taken += 1;
    if (client.taken <= pipelineDepth && client.pending < pipelineDepth) return true;
    socket.destroy();
    this.#bar(share, this.#penaltyMs);
    return false;
  }

  /** The request was not answered at once: it counts until it is. */
  pending(socket: Socket, response: ServerResponse): void {
    const client = this.#clients.get(socket);
    if (client === undefined) return;
    client.pending += 1;
    response.once("close", () => {
      client.pending -= 1;
    });
  }

  /** Requests of this connection that are not answered yet. */
  pendingOf(socket: Socket): number {
    return this.#clients.get(socket)?.pending ?? 0;
  }

  /** What came in on this connection was no request; its address pays with time for the work that it made. */
  penalise(socket: Socket): void {
    const client = this.#clients.get(socket);
    if (client === undefined) return;
    const unseen = socket.bytesRead - client.read;
    const read = Math.max(unseen, client.lastRead);
    this.#bar(client.share, this.#penaltyMs * Math.min(1, read / wholeRead));
  }

  get #penaltyMs(): number {
    return this.#limits.penaltyMs ?? defaultPenaltyMs;
  }

  /**
   * The process has no descriptor to spare: whoever has most gives one up for an address that has fewer. Its oldest that waits for
   * no answer, or simply its oldest.
   */
  #makeRoom(has: number): boolean {
    let most: Share | undefined;
    for (const share of this.#shares.values())
      if (share.open.size > (most?.open.size ?? has + 1)) most = share;
    if (most === undefined) return false;
    const oldestFirst = [...most.open];
    const given = oldestFirst.find((socket) => this.pendingOf(socket) === 0) ?? oldestFirst[0];
    if (given === undefined) return false;
    most.open.delete(given);
    given.destroy();
    return true;
  }

  #work(share: Share, socket: Socket, cost: number): void {
    if (share.turn !== this.#turn) {
      share.turn = this.#turn;
      share.taken = 0;
    }
    const before = share.taken;
    share.taken += cost;
    if (before < turnsAreCountedFrom && share.taken >= turnsAreCountedFrom) this.#endTurnLater();
    if (before < perTurn && share.taken >= perTurn) this.#crowd(share, socket);
  }

  #crowd(share: Share, asking: Socket): void {
    this.#crowded.add(share);
    // Not the one that is just being read: its parser is at work.
    for (const socket of share.open) if (socket !== asking) this.#hold(share, socket);
  }

  #bar(share: Share, forMs: number): void {
    if (share.barred) return;
    share.barred = true;
    for (const socket of share.open) if (!socket.destroyed) this.#hold(share, socket);
    setTimeout(() => {
      share.barred = false;
      this.#crowded.add(share);
      this.#endTurnLater();
      this.#forget(share);
    }, forMs).unref();
  }

  #hold(share: Share, socket: Socket): void {
    if (share.held.has(socket)) return;
    share.held.add(socket);
    hold(socket);
  }

  #forget(share: Share): void {
    if (share.open.size === 0 && !share.barred) this.#shares.delete(share.address);
  }

  #endTurnLater(): void {
    if (this.#ending) return;
    this.#ending = true;
    setImmediate(() => {
      this.#ending = false;
      this.#turn += 1;
      for (const share of this.#crowded) {
        const [next] = share.held;
        if (next === undefined || share.barred) {
          this.#crowded.delete(share);
          continue;
        }
        share.held.delete(next);
        release(next);
      }
      if (this.#crowded.size > 0) this.#endTurnLater();
    });
  }
}

function newShare(address: string): Share {
  return { address, open: new Set(), held: new Set(), turn: 0, taken: 0, barred: false };
}
