import type { Socket } from "node:net";
import type { TurnedAway } from "./turn-away.ts";

/** Who has waited so long is hardly a container any more that starts: the engine names those within 0.3 s. */
const longMs = 500;

type Settle = (refused: TurnedAway | undefined) => void;

export type StrangerLimits = {
  /** Connections of all strangers together. */
  readonly total: number;
  /** Of one address. */
  readonly perAddress: number;
};

/**
 * The waiting room for connections from addresses that are no container's, as far as is known: a container that the engine has not
 * announced yet, or somebody who makes up addresses. Not a byte is read of what they send. All strangers share one budget, however many
 * addresses they have, and within it an address with few connections goes before one with many.
 */
export class Strangers {
  readonly #limits: StrangerLimits;
  readonly #now: () => number;
  readonly #waiting = new Map<string, Map<Socket, Settle>>();
  /** In the order in which they came, with when that was (ms). */
  readonly #inOrder = new Map<Settle, number>();

  constructor(limits: StrangerLimits, now: () => number) {
    this.#limits = limits;
    this.#now = now;
  }

  /**
   * Keeps a connection, which was not read from yet, until `word` says whose its address is.
   * @param word settles within seconds: undefined when the address is a container's, else what to tell it; never rejects
   * @param settled called once, with the same, unless the connection ends before
   */
  wait(socket: Socket, address: string, word: () => Promise<TurnedAway | undefined>, settled: Settle): void {
    const own = this.#waiting.get(address)?.size ?? 0;
    if (
      own >= this.#limits.perAddress ||
      (this.#inOrder.size >= this.#limits.total && !this.#makeRoom(own))
    ) {
      settled(full);
      return;
    }
    const settle: Settle = (refused) => {
      this.#inOrder.delete(settle);
      if (!this.#remove(socket, address)) return;
      socket.off("close", gone);
      settled(refused);
    };
    const gone = () => {
      this.#inOrder.delete(settle);
      this.#remove(socket, address);
    };
    socket.once("close", gone);
    const mine = this.#waiting.get(address) ?? new Map<Socket, Settle>();
    this.#waiting.set(address, mine.set(socket, settle));
    this.#inOrder.set(settle, this.#now());
    void word().then(settle);
  }

  /** The address with the most connections, if that is more than the newcomer's will have, gives its newest up; else who has waited long. */
  #makeRoom(has: number): boolean {
    let most: Map<Socket, Settle> | undefined;
    for (const waiting of this.#waiting.values()) if (waiting.size > (most?.size ?? has + 1)) most = waiting;
    const newest = most === undefined ? undefined : [...most.values()].at(-1);
    const [first] = this.#inOrder;
    const leaver = newest ?? (first !== undefined && this.#now() - first[1] >= longMs ? first[0] : undefined);
    leaver?.(full);
    return leaver !== undefined;
  }

  #remove(socket: Socket, address: string): boolean {
    const mine = this.#waiting.get(address);
    if (mine?.delete(socket) !== true) return false;
    if (mine.size === 0) this.#waiting.delete(address);
    return true;
  }
}

const full: TurnedAway = {
  status: 503,
  code: "too-many-waiting",
  reason: "too many connections wait for an engine to say whose their addresses are",
};
