import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";

/** Requests of one address that are taken before all others have had their turn: some milliseconds of work. */
const perTurn = 128;

/** Requests that a connection may have on their way. SDKs send the next when they have the answer; nobody's pipeline is this long. */
const pipelineDepth = 24;

/** Ending a turn costs a call back from the loop, so one that asks for this little goes on into the next: counts can be so much too high. */
const turnsAreCountedFrom = 8;

/**
 * How long an address is not read from that went deeper. One read of 64 kB can hold 2,500 requests, and Node's parser takes them all, wanted
 * or not, in some tens of milliseconds: that must be a hundredth of the time at most.
 */
const defaultPenaltyMs = 10_000;

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

type Client = { readonly share: Share; turn: number; taken: number; pending: number };

/**
 * Shares the event loop among addresses. A turn is one round of the loop: it reads from each connection that has something to read, up to
 * 64 kB each, which is hundreds of pipelined requests; with hundreds of connections one client alone would fill seconds.
 * So an address that has asked for more than its part of a turn is not read from until the next, and then one connection a turn.
 */
export class FairShare {
  readonly #shares = new Map<string, Share>();
  readonly #clients = new WeakMap<Socket, Client>();
  readonly #crowded = new Set<Share>();
  readonly #limit: number;
  readonly #penaltyMs: number;
  #turn = 0;
  #ending = false;

  /** @param connectionsPerAddress at one time */
  constructor(connectionsPerAddress: number, penaltyMs: number = defaultPenaltyMs) {
    this.#limit = connectionsPerAddress;
    this.#penaltyMs = penaltyMs;
  }

  /** A new connection. False: its address has too many; close it. */
  enter(socket: Socket): boolean {
    const address = socket.remoteAddress ?? "";
    const share = this.#shares.get(address) ?? newShare(address);
    if (share.open.size >= this.#limit) return false;
    this.#shares.set(address, share);
    share.open.add(socket);
    this.#clients.set(socket, { share, turn: 0, taken: 0, pending: 0 });
    if (share.held.size > 0 || share.barred) hold(share, socket);
    socket.once("close", () => {
      share.open.delete(socket);
      share.held.delete(socket);
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
    if (share.turn !== this.#turn) {
      share.turn = this.#turn;
      share.taken = 0;
    }
    share.taken += 1;
    if (share.taken === turnsAreCountedFrom) this.#endTurnLater();
    if (share.taken === perTurn) this.#crowd(share, socket);
    client.taken += 1;
    if (client.taken <= pipelineDepth && client.pending < pipelineDepth) return true;
    socket.destroy();
    this.#bar(share);
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

  #crowd(share: Share, asking: Socket): void {
    this.#crowded.add(share);
    // Not the one that is just being read: its parser is at work.
    for (const socket of share.open) if (socket !== asking) hold(share, socket);
  }

  #bar(share: Share): void {
    if (share.barred) return;
    share.barred = true;
    for (const socket of share.open) if (!socket.destroyed) hold(share, socket);
    setTimeout(() => {
      share.barred = false;
      this.#crowded.add(share);
      this.#endTurnLater();
      this.#forget(share);
    }, this.#penaltyMs).unref();
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
        next.resume();
      }
      if (this.#crowded.size > 0) this.#endTurnLater();
    });
  }
}

function newShare(address: string): Share {
  return { address, open: new Set(), held: new Set(), turn: 0, taken: 0, barred: false };
}

function hold(share: Share, socket: Socket): void {
  if (share.held.has(socket)) return;
  share.held.add(socket);
  // A parser of Node's reads from the kernel by itself, past `pause`, as long as nobody else listens for data.
  if (socket.listenerCount("data", ignore) === 0) socket.on("data", ignore);
  socket.pause();
}

function ignore(): void {}
