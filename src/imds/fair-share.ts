import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";

/**
 * Work that one share may cause in a turn before all others have had theirs; takes some milliseconds. In
 * requests.
 */
const perTurn = 128;

/**
 * This many bytes count as one request; most requests are shorter. Requests that are all header names cost
 * more by the byte.
 */
const bytesPerRequest = 1_024;

/** Setting up a connection and its parser costs as much as this many requests on an open one. */
const connectionCost = 8;

/**
 * Requests that one connection may have unanswered. SDKs send the next after the answer; no real client
 * pipelines this deep.
 */
const pipelineDepth = 24;

/**
 * Ending a turn costs a callback from the event loop. Below this much work the count runs on into the next
 * turn, so it can be too high by this.
 */
const turnsAreCountedFrom = 8;

/**
 * How long a share is not read from after one full read of unwanted input: 2,500 requests, or 10,000 chunks
 * of a body. Node's parser processes a whole read, wanted or not, in some tens of milliseconds; this keeps
 * that below a hundredth of the time. Shorter in proportion for a smaller read.
 */
const defaultPenaltyMs = 10_000;
/** libuv's buffer for one read. */
const wholeRead = 64 * 1024;
/** Up to this size a body is a client's mistake rather than an attack: a form, or a small document. */
const smallBody = 4 * 1024;
/** Each chunk of a body is a callback from the parser, and the smallest chunk has 6 bytes. */
const bytesOfBodyPerRequest = 128;

/** The connections of one container, and its work in this turn. */
type Share = {
  readonly key: string;
  readonly open: Set<Socket>;
  /** Connections that are not read from at the moment, each with the function that starts or resumes it. */
  readonly held: Map<Socket, () => void>;
  turn: number;
  /** In requests. */
  work: number;
  /** Not read from until its penalty is over. */
  isBarred: boolean;
};

type Client = {
  readonly share: Share;
  turn: number;
  requests: number;
  /** Requests that are not answered yet. */
  pending: number;
  /** Bytes read from it up to its last request, and how many of them arrived with that request. */
  read: number;
  lastRead: number;
};

export type ShareLimits = {
  /** Connections of one container at one time. */
  readonly perContainer: number;
  /** Connections of all containers together: the process's limit on open files, less its own needs. */
  readonly total: number;
  /** Default 10 s. */
  readonly penaltyMs?: number;
};

/**
 * Shares file descriptors and the event loop among containers. A turn is one iteration of the loop: it reads
 * up to 64 kB from each readable connection, which may be hundreds of pipelined requests, so with hundreds of
 * connections one container could occupy it for seconds. A container that exceeds its part of a turn is
 * therefore not read from until the next turn, and then from one connection per turn.
 *
 * A share is named by a key: the container's id, or the address where no single container is known to have
 * it.
 */
export class FairShare {
  readonly #shares = new Map<string, Share>();
  readonly #clients = new WeakMap<Socket, Client>();
  /** Shares that exceeded their part of a turn, or have connections held. */
  readonly #crowded = new Set<Share>();
  readonly #limits: ShareLimits;
  #open = 0;
  #turn = 0;
  #isEnding = false;

  constructor(limits: ShareLimits) {
    this.#limits = limits;
  }

  /**
   * Admits a connection of which nothing has been read yet. False: there is no room for it.
   * @param key of the share that it counts against
   * @param begin called now, or when it is the connection's turn
   */
  enter(socket: Socket, key: string, begin: () => void): boolean {
    const share = this.#shares.get(key) ?? newShare(key);
    if (share.open.size >= this.#limits.perContainer) return false;
    if (this.#open >= this.#limits.total && !this.#makeRoom(share.open.size)) return false;
    this.#shares.set(key, share);
    share.open.add(socket);
    this.#open += 1;
    this.#clients.set(socket, { share, turn: 0, requests: 0, pending: 0, read: 0, lastRead: 0 });
    const isCrowded = share.held.size > 0 || share.isBarred;
    this.#work(share, socket, connectionCost);
    if (isCrowded) share.held.set(socket, begin);
    else begin();
    socket.once("close", () => {
      share.open.delete(socket);
      share.held.delete(socket);
      this.#open -= 1;
      this.#forget(share);
    });
    return true;
  }

  /** Counts a request. False: do not answer it, its connection has been closed. */
  take(socket: Socket): boolean {
    const client = this.#clients.get(socket);
    if (client === undefined || socket.destroyed) return false;
    const { share } = client;
    if (client.turn !== this.#turn) {
      client.turn = this.#turn;
      client.requests = 0;
    }
    const read = socket.bytesRead - client.read;
    if (read > 0) {
      client.read += read;
      client.lastRead = read;
    }
    this.#work(share, socket, Math.max(1, read / bytesPerRequest));
    client.requests += 1;
    if (client.requests <= pipelineDepth && client.pending < pipelineDepth) return true;
    socket.destroy();
    this.#bar(share, this.#penaltyMs);
    return false;
  }

  /** The request was not answered at once: it counts as pending until it is. */
  pending(socket: Socket, response: ServerResponse): void {
    const client = this.#clients.get(socket);
    if (client === undefined) return;
    client.pending += 1;
    response.once("close", () => {
      client.pending -= 1;
    });
  }

  /** Requests on this connection that are not answered yet. */
  pendingOf(socket: Socket): number {
    return this.#clients.get(socket)?.pending ?? 0;
  }

  /**
   * A body arrived, and was parsed as far as it was read. The share pays with its turn, or for a large one
   * with time.
   */
  penalise(socket: Socket): void {
    const client = this.#clients.get(socket);
    if (client === undefined) return;
    const read = Math.max(socket.bytesRead - client.read, client.lastRead);
    if (read <= smallBody) this.#work(client.share, socket, read / bytesOfBodyPerRequest);
    else this.#bar(client.share, this.#penaltyMs * Math.min(1, read / wholeRead));
  }

  /** The input was not HTTP; the parser stopped there. */
  malformed(socket: Socket): void {
    const client = this.#clients.get(socket);
    if (client !== undefined) this.#work(client.share, socket, connectionCost);
  }

  get #penaltyMs(): number {
    return this.#limits.penaltyMs ?? defaultPenaltyMs;
  }

  /**
   * File descriptors have run out: closes a connection of the largest share, if that has more than the
   * newcomer's will. Closes the oldest one without a pending answer, or else the oldest.
   * @param held connections of the newcomer's share
   */
  #makeRoom(held: number): boolean {
    let most: Share | undefined;
    for (const share of this.#shares.values())
      if (share.open.size > (most?.open.size ?? held + 1)) most = share;
    if (most === undefined) return false;
    const oldestFirst = [...most.open];
    const evicted = oldestFirst.find((socket) => this.pendingOf(socket) === 0) ?? oldestFirst[0];
    if (evicted === undefined) return false;
    most.open.delete(evicted);
    evicted.destroy();
    return true;
  }

  #work(share: Share, socket: Socket, cost: number): void {
    if (share.turn !== this.#turn) {
      share.turn = this.#turn;
      share.work = 0;
    }
    const before = share.work;
    share.work += cost;
    if (before < turnsAreCountedFrom && share.work >= turnsAreCountedFrom) this.#endTurnLater();
    if (before < perTurn && share.work >= perTurn) this.#crowd(share, socket);
  }

  #crowd(share: Share, current: Socket): void {
    this.#crowded.add(share);
    // Not the one that is being read right now: its parser is running.
    for (const socket of share.open) if (socket !== current) this.#hold(share, socket);
  }

  #bar(share: Share, forMs: number): void {
    if (share.isBarred) return;
    share.isBarred = true;
    for (const socket of share.open) if (!socket.destroyed) this.#hold(share, socket);
    setTimeout(() => {
      share.isBarred = false;
      this.#crowded.add(share);
      this.#endTurnLater();
      this.#forget(share);
    }, forMs).unref();
  }

  #hold(share: Share, socket: Socket): void {
    if (share.held.has(socket)) return;
    share.held.set(socket, () => void socket.resume());
    // Node's parser reads from the kernel directly, ignoring `pause`, unless there is a listener for data.
    if (socket.listenerCount("data", ignore) === 0) socket.on("data", ignore);
    socket.pause();
  }

  #forget(share: Share): void {
    if (share.open.size === 0 && !share.isBarred) this.#shares.delete(share.key);
  }

  #endTurnLater(): void {
    if (this.#isEnding) return;
    this.#isEnding = true;
    setImmediate(() => {
      this.#isEnding = false;
      this.#turn += 1;
      for (const share of this.#crowded) {
        const [next] = share.held;
        if (next === undefined || share.isBarred) {
          this.#crowded.delete(share);
          continue;
        }
        const [socket, resume] = next;
        share.held.delete(socket);
        resume();
      }
      if (this.#crowded.size > 0) this.#endTurnLater();
    });
  }
}

function newShare(key: string): Share {
  return { key, open: new Set(), held: new Map(), turn: 0, work: 0, isBarred: false };
}

function ignore(): void {}
