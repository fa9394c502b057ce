import { TokenBucket } from "../token-bucket.ts";
import type { Pace } from "./rate.ts";

/** Runs something later; returns what cancels it. */
export type Schedule = (delayMs: number, run: () => void) => () => void;

/** A call to be made. Its owner changes the fields and then calls `changed()`. */
export type Job = {
  readonly key: string;
  /** A client wants it and has nothing. Goes before everything else. */
  waitedFor: boolean;
  /** There are valid credentials already; this is to replace them. Undefined: there are none. */
  renewalOf: { readonly neededBy: number; readonly expiresAt: number } | undefined;
  /** Not before this time; in an outage the probes do not heed it. */
  notBefore: number;
  /** When it was last started, 0 for never: probes go round by it. */
  triedAt: number;
  queuedAt: number;
};

export type LaneLimits = {
  /** Calls that STS is expected to answer any moment. */
  readonly callsInFlight: number;
  /** A call older than this no longer counts as one of those, so a role that hangs cannot hold up the others. */
  readonly stalledAfterMs: number;
  /** But there may be only so many of them. */
  readonly stalledCalls: number;
};

/** A renewal with less than this left does not wait for its turn. */
const urgentMs = 5 * 60_000;
const leastRenewalsPerSecond = 0.5;

/**
 * Who may call STS next, and how many at once. Waiting clients first, then containers that have nothing yet, then renewals;
 * renewals, in order of need and no faster than twice the rate at which they come up anyway, so what an outage
 * has dammed up does not burst out at its end.
 */
export class CallLanes {
  readonly #limits: LaneLimits;
  readonly #pace: Pace;
  readonly #now: () => number;
  readonly #schedule: Schedule;
  readonly #call: (job: Job) => void;
  readonly #queue = new Set<Job>();
  readonly #running = new Map<Job, () => void>();
  readonly #stalled = new Set<Job>();
  readonly #renewals: TokenBucket;
  #cancelWake: (() => void) | undefined;
  #pumping = false;

  /** `call` starts the call and must end with `finished(job)`. */
  constructor(options: {
    readonly limits: LaneLimits;
    readonly pace: Pace;
    readonly now: () => number;
    readonly schedule: Schedule;
    readonly call: (job: Job) => void;
  }) {
    this.#limits = options.limits;
    this.#pace = options.pace;
    this.#now = options.now;
    this.#schedule = options.schedule;
    this.#call = options.call;
    this.#renewals = new TokenBucket(leastRenewalsPerSecond, options.now());
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

  /** `perSecond`: how often a renewal comes up when nothing is wrong. */
  setRenewalRate(perSecond: number): void {
    this.#renewals.setRate(Math.max(leastRenewalsPerSecond, 2 * perSecond), this.#now());
  }

  /** Does nothing for a job that is queued or running already, except to look again at who is next. */
  add(job: Job): void {
    if (!this.#running.has(job) && !this.#stalled.has(job)) {
      if (!this.#queue.has(job)) job.queuedAt = this.#now();
      this.#queue.add(job);
    }
    this.changed();
  }

  remove(job: Job): void {
    this.#queue.delete(job);
  }

  finished(job: Job): void {
    this.#running.get(job)?.();
    this.#running.delete(job);
    this.#stalled.delete(job);
    this.changed();
  }

  close(): void {
    this.#queue.clear();
    this.#cancelWake?.();
    for (const cancel of this.#running.values()) cancel();
  }

  /** Starts what may start, and sets the alarm for the next. */
  changed(): void {
    // A call that fails at once comes back in here while the loop below is at it.
    if (this.#pumping) return;
    this.#pumping = true;
    this.#cancelWake?.();
    this.#cancelWake = undefined;
    const wait = this.#startAll();
    if (wait !== undefined) this.#cancelWake = this.#schedule(Math.max(1, wait), () => this.changed());
    this.#pumping = false;
  }

  /** How long until it is worth looking again; undefined: until something changes. */
  #startAll(): number | undefined {
    while (this.#queue.size > 0) {
      if (this.#running.size >= this.#limits.callsInFlight) return undefined;
      if (this.#running.size + this.#stalled.size >= this.#limits.callsInFlight + this.#limits.stalledCalls)
        return undefined;
      const pause = this.#pace.delay(this.#anyoneWaits());
      if (pause > 0) return pause;
      const next = this.#pace.state === "down" ? this.#nextProbe() : this.#next();
      if (typeof next === "number") return next;
      this.#start(next);
    }
    return undefined;
  }

  #start(job: Job): void {
    const now = this.#now();
    this.#queue.delete(job);
    job.triedAt = now;
    this.#pace.started();
    const cancel = this.#schedule(this.#limits.stalledAfterMs, () => {
      this.#running.delete(job);
      this.#stalled.add(job);
      this.changed();
    });
    this.#running.set(job, cancel);
    this.#call(job);
  }

  #anyoneWaits(): boolean {
    for (const job of this.#queue) if (job.waitedFor) return true;
    return false;
  }

  /** The job whose turn it is, or how long until there is one. */
  #next(): Job | number {
    const now = this.#now();
    let best: Job | undefined;
    let bestRank = Number.POSITIVE_INFINITY;
    let bestBy = Number.POSITIVE_INFINITY;
    let wait = 60_000;
    const renewalsIn = this.#renewals.delay(now);
    for (const job of this.#queue) {
      if (job.notBefore > now) {
        wait = Math.min(wait, job.notBefore - now);
        continue;
      }
      const rank = rankOf(job, now);
      if (rank === 2 && renewalsIn > 0) {
        wait = Math.min(wait, renewalsIn);
        continue;
      }
      const by = rank === 2 ? (job.renewalOf?.neededBy ?? 0) : job.queuedAt;
      if (rank < bestRank || (rank === bestRank && by < bestBy)) {
        best = job;
        bestRank = rank;
        bestBy = by;
      }
    }
    if (best === undefined) return wait;
    if (bestRank === 2) this.#renewals.take();
    return best;
  }

  /** In an outage: one that somebody waits for, and among equals the one that was tried longest ago, so that no bad role is asked for for ever. */
  #nextProbe(): Job | number {
    let best: Job | undefined;
    for (const job of this.#queue) {
      if (best === undefined || (job.waitedFor && !best.waitedFor)) best = job;
      else if (job.waitedFor === best.waitedFor && job.triedAt < best.triedAt) best = job;
    }
    return best ?? 60_000;
  }
}

function rankOf(job: Job, now: number): 0 | 1 | 2 {
  if (job.waitedFor) return 0;
  if (job.renewalOf === undefined) return 1;
  return job.renewalOf.expiresAt - now < urgentMs ? 0 : 2;
}
