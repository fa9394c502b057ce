import { pool } from "../metadata/client.ts";
import type { UpstreamRate } from "./upstream-rate.ts";

/** A request to the real service that waits for its turn. */
export type Queued = {
  /** The containers that wait for the answer. The first whose turn comes starts the request. */
  readonly askers: ReadonlyMap<string, unknown>;
  /** Sends the request; settles when the connection is free again. Never rejects. */
  readonly start: (by: string | undefined) => Promise<void>;
};

/** The state of one container. */
type Share = {
  readonly waiting: Set<Queued>;
  inFlight: number;
  /** Requests that it may make ahead of containers without credit, and when this was last topped up (ms). */
  credit: number;
  creditAt: number;
};

export const queueLimits = {
  /**
   * For all containers together. The service limits connections; a few dozen are enough for the load that its
   * packet limit allows.
   */
  inFlight: pool.connections - pool.reserved,
  /** Of those, for containers that have none in flight: when the service is slow, the others fill up. */
  inFlightReserve: 8,
  inFlightPerContainer: 8,
  /** As many as can get a turn before they time out. Clients that join a queued request are not counted. */
  waitingPerContainer: 128,
  /** For all containers together, though each may always queue a few. */
  waiting: 2048,
  waitingAlways: 8,
  /**
   * More than an SDK requests when it starts. Small, so that containers that take all they can soon fall
   * behind the others. Requests beyond it, such as the 200 of cloud-init's crawl, share the rate without its
   * reserve.
   */
  credit: 20,
  /**
   * Credit grows at half of the container's fair share of the rate, among all that wait and at least this
   * many.
   */
  creditAmong: 4,
} as const;

/**
 * Decides whose request goes to the real service next: round robin, first among containers that have made few
 * requests lately, then among the others. A container alone can use the whole rate; another's request is then
 * sent before everything that it has queued.
 */
export class UpstreamQueue {
  readonly #rate: UpstreamRate;
  readonly #now: () => number;
  readonly #shares = new Map<string, Share>();
  /** Containers with queued requests, in the order of their turns. */
  readonly #round = new Map<string, Share>();
  #inFlight = 0;
  #waiting = 0;
  #forgetAt = 256;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: { readonly rate: UpstreamRate; readonly now: () => number }) {
    this.#rate = options.rate;
    this.#now = options.now;
  }

  /** For tests of the limits: what the queue holds cannot be seen from outside. */
  get size(): { readonly containers: number; readonly inFlight: number; readonly waiting: number } {
    return { containers: this.#shares.size, inFlight: this.#inFlight, waiting: this.#waiting };
  }

  /** Queues the request for the container; it may start at once. False: the container has too many queued. */
  add(container: string, request: Queued): boolean {
    const share = this.#shareOf(container);
    if (share.waiting.has(request)) return true;
    const places =
      this.#waiting < queueLimits.waiting ? queueLimits.waitingPerContainer : queueLimits.waitingAlways;
    if (share.waiting.size >= places) return false;
    share.waiting.add(request);
    this.#waiting += 1;
    if (share.waiting.size === 1) this.#round.set(container, share);
    this.#dispatch();
    return true;
  }

  /** The container no longer waits for it. */
  remove(container: string, request: Queued): void {
    const share = this.#shares.get(container);
    if (share === undefined || !share.waiting.delete(request)) return;
    this.#waiting -= 1;
    if (share.waiting.size === 0) this.#round.delete(container);
  }

  /** The proxy's own requests do not queue. */
  startNow(request: Queued): void {
    this.#withdraw(request);
    this.#rate.charge();
    void request.start(undefined);
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
    const [request] = share.waiting;
    if (request === undefined) return;
    this.#withdraw(request);
    // To the end of the round.
    this.#round.delete(container);
    if (share.waiting.size > 0) this.#round.set(container, share);
    // Without credit a container uses what no other wants; that makes no debt.
    if (share.credit >= 1) share.credit -= 1;
    this.#rate.charge();
    share.inFlight += 1;
    this.#inFlight += 1;
    void request.start(container).finally(() => {
      share.inFlight -= 1;
      this.#inFlight -= 1;
      this.#dispatch();
    });
  }

  #withdraw(request: Queued): void {
    for (const asker of request.askers.keys()) this.remove(asker, request);
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

  /** An idle container with full credit is no different from an unknown one. */
  #forget(): void {
    for (const [container, share] of this.#shares) {
      const idle = share.waiting.size === 0 && share.inFlight === 0;
      if (idle && this.#topUp(share) >= queueLimits.credit) this.#shares.delete(container);
    }
    this.#forgetAt = Math.max(256, this.#shares.size * 2);
  }
}
