import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";

/** Work of one address that is taken before all others have had their turn: some milliseconds. */
const perTurn = 128;

/** So many bytes are as much work as a request; most requests have fewer. Headers of nothing but names cost more by the byte than by the request. */
const bytesPerRequest = 1_024;

/** To set up a connection and its parser costs as much as some requests on a kept one. */
const connectionCost = 8;

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
/** A client's mistake rather than an attack: the body of a form, or of a small document. */
const smallBody = 4 * 1024;
/** Each chunk of a body is a call from the parser, and the smallest has 6 bytes. */
const bytesOfBodyPerRequest = 128;

/** What one address has: its connections, those of them that are not read from at the moment, and what it asked in this turn. */
type Share = {
  readonly address: string;
  readonly open: Set<Socket>;
  /** With what makes each go on: to begin with it, or to read from it again. */
  readonly held: Map<Socket, () => void>;
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

  /**
   * A new connection, which was not read from yet. False: there is no room for it.
   * @param address by whose share it counts
   * @param begin called now, or when it is the connection's turn
   */
  enter(socket: Socket, address: string, begin: () => void): boolean {
    const share = this.#shares.get(address) ?? newShare(address);
    if (share.open.size >= this.#limits.perAddress) return false;
    if (this.#open >= this.#limits.total && !this.#makeRoom(share.open.size)) return false;
    this.#shares.set(address, share);
    share.open.add(socket);
    this.#open += 1;
    this.#clients.set(socket, { share, turn: 0, taken: 0, pending: 0, read: 0, lastRead: 0 });
    const isCrowded = share.held.size > 0 || share.barred;
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

  /** A body came in, and was parsed as far as it was read: its address pays for that, with its turn or, for much of it, with time. */
  penalise(socket: Socket): void {
    const client = this.#clients.get(socket);
    if (client === undefined) return;
    const read = Math.max(socket.bytesRead - client.read, client.lastRead);
    if (read <= smallBody) this.#work(client.share, socket, read / bytesOfBodyPerRequest);
    else this.#bar(client.share, this.#penaltyMs * Math.min(1, read / wholeRead));
  }

  /** What came in was no HTTP: the parser has stopped where it saw that. */
  malformed(socket: Socket): void {
    const client = this.#clients.get(socket);
    if (client !== undefined) this.#work(client.share, socket, connectionCost);
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
    share.held.set(socket, () => void socket.resume());
    // A parser of Node's reads from the kernel by itself, past `pause`, as long as nobody else listens for data.
    if (socket.listenerCount("data", ignore) === 0) socket.on("data", ignore);
    socket.pause();
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
        const [socket, goOn] = next;
        share.held.delete(socket);
        goOn();
      }
      if (this.#crowded.size > 0) this.#endTurnLater();
    });
  }
}

function newShare(address: string): Share {
  return { address, open: new Set(), held: new Map(), turn: 0, taken: 0, barred: false };
}

function ignore(): void {}
