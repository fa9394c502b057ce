import type { Socket } from "node:net";
import type { Refusal } from "./refusals.ts";

/**
 * A connection that has waited this long is unlikely to be a starting container's: engines announce those
 * within 0.3 s.
 */
const longWaitMs = 500;

type Settle = (refusal: Refusal | undefined) => void;

export type StrangerLimits = {
  /** Connections from all unknown addresses together. */
  readonly total: number;
  readonly perAddress: number;
};

/**
 * Holds connections from unknown addresses: a container that its engine has not announced yet, or a client
 * with a forged address. Nothing is read from them. All share one budget, however many addresses they use,
 * and an address with few connections has priority over one with many.
 */
export class Strangers {
  readonly #limits: StrangerLimits;
  readonly #now: () => number;
  readonly #byAddress = new Map<string, Map<Socket, Settle>>();
  /** In order of arrival, with its time (ms). */
  readonly #arrivals = new Map<Settle, number>();

  constructor(limits: StrangerLimits, now: () => number) {
    this.#limits = limits;
    this.#now = now;
  }

  /**
   * Holds a connection, of which nothing has been read, until `awaitContainer` settles.
   * @param awaitContainer resolves within seconds: undefined once a container has the address, else the
   *   refusal; never rejects
   * @param settled called once with that result, unless the connection closes first
   */
  wait(
    socket: Socket,
    address: string,
    awaitContainer: () => Promise<Refusal | undefined>,
    settled: Settle,
  ): void {
    const held = this.#byAddress.get(address)?.size ?? 0;
    const isFull = this.#arrivals.size >= this.#limits.total;
    if (held >= this.#limits.perAddress || (isFull && !this.#makeRoom(held))) {
      settled(tooManyWaiting);
      return;
    }
    const settle: Settle = (refusal) => {
      this.#arrivals.delete(settle);
      if (!this.#remove(socket, address)) return;
      socket.off("close", closed);
      settled(refusal);
    };
    const closed = () => {
      this.#arrivals.delete(settle);
      this.#remove(socket, address);
    };
    socket.once("close", closed);
    const sockets = this.#byAddress.get(address) ?? new Map<Socket, Settle>();
    this.#byAddress.set(address, sockets.set(socket, settle));
    this.#arrivals.set(settle, this.#now());
    void awaitContainer().then(settle);
  }

  /**
   * Rejects the newest connection of the address that holds most, if that is more than the newcomer's will;
   * otherwise the oldest one, if it has waited long.
   * @param held connections of the newcomer's address
   */
  #makeRoom(held: number): boolean {
    let most: Map<Socket, Settle> | undefined;
    for (const sockets of this.#byAddress.values())
      if (sockets.size > (most?.size ?? held + 1)) most = sockets;
    const newest = most === undefined ? undefined : [...most.values()].at(-1);
    const [oldest] = this.#arrivals;
    const hasWaitedLong = oldest !== undefined && this.#now() - oldest[1] >= longWaitMs;
    const evicted = newest ?? (hasWaitedLong ? oldest[0] : undefined);
    evicted?.(tooManyWaiting);
    return evicted !== undefined;
  }

  #remove(socket: Socket, address: string): boolean {
    const sockets = this.#byAddress.get(address);
    if (sockets?.delete(socket) !== true) return false;
    if (sockets.size === 0) this.#byAddress.delete(address);
    return true;
  }
}

const tooManyWaiting: Refusal = {
  code: "too-many-waiting",
  reason: "too many connections wait for an engine to name the containers of their addresses",
};
