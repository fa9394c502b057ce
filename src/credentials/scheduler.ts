import { TokenBucket } from "../token-bucket.ts";
import type { CallRate } from "./rate.ts";

/** Runs something later; returns what cancels it. */
export type Schedule = (delayMs: number, run: () => void) => () => void;

/**
 * A call to STS: queued, started, repeated and started again for each renewal. Its owner sets `waitedFor`,
 * `renewalOf` and `notBefore`; they take effect at the next `add` or `finished`, of any job.
 */
export type Job = {
  /** Starts the call; it must end with `finished(job)`. */
  readonly start: () => void;
  /** A client waits for it: it goes before everything else. */
  waitedFor: boolean;
  /** The valid credentials that this call is to replace; undefined if there are none. */
  renewalOf: { readonly neededBy: number; readonly expiresAt: number } | undefined;
  /** Not before this time; ignored by the probes in an outage. */
  notBefore: number;
  /** Set by the scheduler: when the call was last started, 0 for never. */
  triedAt: number;
  /** Set by the scheduler: when the job was last queued. */
  queuedAt: number;
};

export type SchedulerLimits = {
  /** Calls that may run at once, stalled ones aside. */
  readonly callsInFlight: number;
  /** A call that takes longer counts as stalled, so that a role that hangs does not hold up the others. */
  readonly stalledAfterMs: number;
  /** Stalled calls, in addition to `callsInFlight`. */
  readonly stalledCalls: number;
};

/** A renewal goes first if the credentials that it replaces expire sooner than this. */
const urgentMs = 5 * 60_000;
const minRenewalsPerSecond = 0.5;
/** How long to wait if nothing is due sooner. */
const idleMs = 60_000;

/** The order in which jobs start. */
const ranks = { urgent: 0, initial: 1, renewal: 2 } as const;
type Rank = (typeof ranks)[keyof typeof ranks];

/**
 * Decides which call to STS starts next, and how many run at once. Calls that clients wait for come first,
 * then containers that have no credentials yet, then renewals. Renewals start in order of need, at no more
 * than twice their normal rate, so the backlog of an outage is not released at once.
 */
export class Scheduler {
  readonly #limits: SchedulerLimits;
  readonly #rate: CallRate;
  readonly #now: () => number;
  readonly #schedule: Schedule;
  readonly #queue = new Set<Job>();
  /** Running jobs, each with what cancels its timer for `#stalled`. */
  readonly #running = new Map<Job, () => void>();
  readonly #stalled = new Set<Job>();
  readonly #renewals: TokenBucket;
  /** Cancels the timer for the next dispatch. */
  #cancelWake: (() => void) | undefined;
  #dispatching = false;

  constructor(options: {
    readonly limits: SchedulerLimits;
    readonly rate: CallRate;
    readonly now: () => number;
    readonly schedule: Schedule;
  }) {
    this.#limits = options.limits;
    this.#rate = options.rate;
    this.#now = options.now;
    this.#schedule = options.schedule;
    this.#renewals = new TokenBucket(minRenewalsPerSecond, options.now());
  }

  get queued(): number {
    return this.#queue.size;
  }

  get inFlight(): number {
    return this.#running.size;
  }

  get stalled(): number {
    return this.#stalled.size;
  }

  /** `perSecond`: how many renewals are due in normal operation. */
  setRenewalRate(perSecond: number): void {
    this.#renewals.setRate(Math.max(minRenewalsPerSecond, 2 * perSecond), this.#now());
  }

  /** Queues a job, unless it is queued or running already. Starts every job that may start. */
  add(job: Job): void {
    if (!this.#running.has(job) && !this.#stalled.has(job)) {
      if (!this.#queue.has(job)) job.queuedAt = this.#now();
      this.#queue.add(job);
    }
    this.#dispatch();
  }

  remove(job: Job): void {
    this.#queue.delete(job);
  }

  finished(job: Job): void {
    this.#running.get(job)?.();
    this.#running.delete(job);
    this.#stalled.delete(job);
    this.#dispatch();
  }

  close(): void {
    this.#queue.clear();
    this.#cancelWake?.();
    for (const cancel of this.#running.values()) cancel();
  }

  /** Starts every job that may start, and sets the timer for the next. */
  #dispatch(): void {
    // A call that fails at once re-enters here while the loop below is running.
    if (this.#dispatching) return;
    this.#dispatching = true;
    this.#cancelWake?.();
    this.#cancelWake = undefined;
    const wait = this.#startAll();
    if (wait !== undefined) this.#cancelWake = this.#schedule(Math.max(1, wait), () => this.#dispatch());
    this.#dispatching = false;
  }

  /** Returns how long until another job may start; undefined: not before something changes. */
  #startAll(): number | undefined {
    while (this.#queue.size > 0) {
      if (this.#running.size >= this.#limits.callsInFlight) return undefined;
      if (this.#running.size + this.#stalled.size >= this.#limits.callsInFlight + this.#limits.stalledCalls)
        return undefined;
      const pause = this.#rate.delay(this.#isAnyWaitedFor());
      if (pause > 0) return pause;
      const next = this.#rate.state === "down" ? this.#nextProbe() : this.#next();
      if (typeof next === "number") return next;
      this.#start(next);
    }
    return undefined;
  }

  #start(job: Job): void {
    this.#queue.delete(job);
    job.triedAt = this.#now();
    this.#rate.started();
    const cancel = this.#schedule(this.#limits.stalledAfterMs, () => {
      this.#running.delete(job);
      this.#stalled.add(job);
      this.#dispatch();
    });
    this.#running.set(job, cancel);
    job.start();
  }

  #isAnyWaitedFor(): boolean {
    for (const job of this.#queue) if (job.waitedFor) return true;
    return false;
  }

  /** The next job, or how long until there is one. */
  #next(): Job | number {
    const now = this.#now();
    let best: Job | undefined;
    let bestRank = Number.POSITIVE_INFINITY;
    let bestBy = Number.POSITIVE_INFINITY;
    let wait = idleMs;
    const renewalsIn = this.#renewals.delay(now);
    for (const job of this.#queue) {
      if (job.notBefore > now) {
        wait = Math.min(wait, job.notBefore - now);
        continue;
      }
      const rank = rankOf(job, now);
      if (rank === ranks.renewal && renewalsIn > 0) {
        wait = Math.min(wait, renewalsIn);
        continue;
      }
      const by = rank === ranks.renewal ? (job.renewalOf?.neededBy ?? 0) : job.queuedAt;
      if (rank < bestRank || (rank === bestRank && by < bestBy)) {
        best = job;
        bestRank = rank;
        bestBy = by;
      }
    }
    if (best === undefined) return wait;
    if (bestRank === ranks.renewal) this.#renewals.take();
    return best;
  }

  /**
   * In an outage: a job that a client waits for, if any, and among those the one tried longest ago, so that a
   * role which always fails is not probed forever.
   */
  #nextProbe(): Job | number {
    let best: Job | undefined;
    for (const job of this.#queue) {
      if (best === undefined || (job.waitedFor && !best.waitedFor)) best = job;
      else if (job.waitedFor === best.waitedFor && job.triedAt < best.triedAt) best = job;
    }
    return best ?? idleMs;
  }
}

function rankOf(job: Job, now: number): Rank {
  if (job.waitedFor) return ranks.urgent;
  if (job.renewalOf === undefined) return ranks.initial;
  return job.renewalOf.expiresAt - now < urgentMs ? ranks.urgent : ranks.renewal;
}
