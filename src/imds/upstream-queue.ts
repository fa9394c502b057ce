import { pool } from "../metadata/client.ts";
import type { UpstreamRate } from "./upstream-rate.ts";

/** A question to the real service that waits for its turn. */
export type Queued = {
  /** The containers that want the answer. The first whose turn comes starts it. */
  readonly askers: ReadonlyMap<string, unknown>;
  /** Asks; settles when the connection is free again. Never rejects. */
  readonly start: (by: string | undefined) => Promise<void>;
};

/** What the queue knows of a container. */
type Share = {
  readonly waiting: Set<Queued>;
  inFlight: number;
  /** Requests that it may still make ahead of those who have used up theirs, and when it was last topped up (ms). */
  credit: number;
  creditAt: number;
};

export const queueLimits = {
  /** At one time, all containers together. The service caps connections; a few dozen serve any load that its packet limit lets through. */
  inFlight: pool.connections - pool.reserved,
  /** Of those, for containers that have none yet: a service that is slow fills the others. */
  inFlightReserve: 8,
  inFlightPerContainer: 8,
  /** As many as can have their turn before they have waited too long. Clients that join a question already waiting are not counted. */
  waitingPerContainer: 128,
  /** All together, but each container has a few places however many others there are. */
  waiting: 2048,
  waitingAlways: 8,
  /**
   * What an SDK asks when it starts, and more. Small, so that containers that take all they can are soon behind those that do not; what is asked
   * beyond it, such as the 200 requests of cloud-init's crawl, shares the spare part of the rate.
   */
  credit: 20,
  /** Credit grows by half of the part that each would have if all that wait, and no fewer than these, took turns. */
  creditAmong: 4,
} as const;

/**
 * Whose question goes to the real service next: the containers' turns go round, first among those that asked for little lately, then among the
 * others. A container alone can use the whole rate; another's request then comes before all that it has waiting.
 */
export class UpstreamQueue {
  readonly #rate: UpstreamRate;
  readonly #now: () => number;
  readonly #shares = new Map<string, Share>();
  /** Those with something waiting, in the order of their turns. */
  readonly #round = new Map<string, Share>();
  #inFlight = 0;
  #waiting = 0;
  #forgetAt = 256;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: { readonly rate: UpstreamRate; readonly now: () => number }) {
    this.#rate = options.rate;
    this.#now = options.now;
  }

  get size(): { readonly containers: number; readonly inFlight: number; readonly waiting: number } {
    return { containers: this.#shares.size, inFlight: this.#inFlight, waiting: this.#waiting };
  }

  /** Puts it into the container's queue; it may start at once. False: the container has too many there. */
  add(container: string, question: Queued): boolean {
    const share = this.#shareOf(container);
    if (share.waiting.has(question)) return true;
    const places =
      this.#waiting < queueLimits.waiting ? queueLimits.waitingPerContainer : queueLimits.waitingAlways;
    if (share.waiting.size >= places) return false;
    share.waiting.add(question);
    this.#waiting += 1;
    if (share.waiting.size === 1) this.#round.set(container, share);
    this.#dispatch();
    return true;
  }

  /** The container does not want it any more. */
  remove(container: string, question: Queued): void {
    const share = this.#shares.get(container);
    if (share === undefined || !share.waiting.delete(question)) return;
    this.#waiting -= 1;
    if (share.waiting.size === 0) this.#round.delete(container);
  }

  /** What the proxy itself needs waits for nobody. */
  pass(question: Queued): void {
    this.#withdraw(question);
    this.#rate.charge();
    void question.start(undefined);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#round.clear();
  }

  #dispatch(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    while (this.#round.size > 0 && this.#inFlight < queueLimits.inFlight) {
      const next = this.#next();
      if (next === undefined) return;
      const wait = this.#rate.delay(next.share.credit < 1);
      if (wait > 0) {
        this.#timer = setTimeout(() => this.#dispatch(), wait);
        return;
      }
      this.#start(next.container, next.share);
    }
  }

  #next(): { readonly container: string; readonly share: Share } | undefined {
    let second: { readonly container: string; readonly share: Share } | undefined;
    const crowded = this.#inFlight >= queueLimits.inFlight - queueLimits.inFlightReserve;
    for (const [container, share] of this.#round) {
      if (share.inFlight >= (crowded ? 1 : queueLimits.inFlightPerContainer)) continue;
      if (this.#topUp(share) >= 1) return { container, share };
      second ??= { container, share };
    }
    return second;
  }

  #start(container: string, share: Share): void {
    const [question] = share.waiting;
    if (question === undefined) return;
    this.#withdraw(question);
    // To the end of the round.
    this.#round.delete(container);
    if (share.waiting.size > 0) this.#round.set(container, share);
    // Past its credit a container uses what nobody else wants, and owes nothing for it.
    if (share.credit >= 1) share.credit -= 1;
    this.#rate.charge();
    share.inFlight += 1;
    this.#inFlight += 1;
    void question.start(container).finally(() => {
      share.inFlight -= 1;
      this.#inFlight -= 1;
      this.#dispatch();
    });
  }

  #withdraw(question: Queued): void {
    for (const asker of question.askers.keys()) this.remove(asker, question);
  }

  #topUp(share: Share): number {
    const now = this.#now();
    const perSecond = this.#rate.perSecond / 2 / Math.max(queueLimits.creditAmong, this.#round.size);
    const earned = (Math.max(0, now - share.creditAt) / 1000) * perSecond;
    share.creditAt = now;
    share.credit = Math.min(queueLimits.credit, share.credit + earned);
    return share.credit;
  }

  #shareOf(container: string): Share {
    const known = this.#shares.get(container);
    if (known !== undefined) return known;
    if (this.#shares.size >= this.#forgetAt) this.#forget();
    const share = {
      waiting: new Set<Queued>(),
      inFlight: 0,
      credit: queueLimits.credit,
      creditAt: this.#now(),
    };
    this.#shares.set(container, share);
    return share;
  }

  /** A container with its whole credit that wants nothing is like one that was never seen. */
  #forget(): void {
    for (const [container, share] of this.#shares) {
      const idle = share.waiting.size === 0 && share.inFlight === 0;
      if (idle && this.#topUp(share) >= queueLimits.credit) this.#shares.delete(container);
    }
    this.#forgetAt = Math.max(256, this.#shares.size * 2);
  }
}
