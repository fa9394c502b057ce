import type { Log } from "../log.ts";
import { TokenBucket } from "../token-bucket.ts";

export type PaceState = "normal" | "throttled" | "down";

/** Below this a host of many containers could not even renew what it has. */
const leastCallsPerSecond = 1;
/** From the least rate back to the full one. */
const recoveryMs = 120_000;
/** This many different roles failing one after the other, and none succeeding, is STS and not a role. */
const rolesForAnOutage = 3;
/** With an answer from STS within 3 s, those who wait are served within 5 s of its return. */
const probeWhileWaitedForMs = 2_000;
const probeLeastOftenMs = 30_000;

/**
 * How fast the whole program may call STS. It halves when STS throttles and grows back linearly; when nobody gets an answer it
 * stops calling but for a probe now and then. One for all roles: the quota is the account's.
 */
export class Pace {
  readonly #full: number;
  readonly #now: () => number;
  readonly #random: () => number;
  readonly #log: Log;
  readonly #bucket: TokenBucket;
  #rate: number;
  #rateAt: number;
  #throttledAt = Number.NEGATIVE_INFINITY;
  #answeredAt = Number.NEGATIVE_INFINITY;
  #throttled = false;
  #down = false;
  readonly #failing = new Set<string>();
  #downSince = 0;
  #probedAt = 0;
  #probes = 0;
  #jitter = 1;

  constructor(options: {
    readonly callsPerSecond: number;
    readonly now: () => number;
    readonly random: () => number;
    readonly log: Log;
  }) {
    this.#full = options.callsPerSecond;
    this.#rate = options.callsPerSecond;
    this.#now = options.now;
    this.#random = options.random;
    this.#log = options.log;
    this.#rateAt = options.now();
    this.#bucket = new TokenBucket(options.callsPerSecond, this.#rateAt);
  }

  get state(): PaceState {
    this.#grow(this.#now());
    return this.#down ? "down" : this.#throttled ? "throttled" : "normal";
  }

  get callsPerSecond(): number {
    this.#grow(this.#now());
    return this.#rate;
  }

  /** How long until the next call may start; 0 for now. `waitedFor`: whether a client wants what is not there. */
  delay(waitedFor: boolean): number {
    const now = this.#now();
    if (!this.#down) {
      this.#grow(now);
      return this.#bucket.delay(now);
    }
    const interval = waitedFor
      ? probeWhileWaitedForMs
      : Math.min(probeLeastOftenMs, probeWhileWaitedForMs * 2 ** this.#probes);
    // A clock set back must not put the next probe off by hours.
    const elapsed = Math.abs(now - this.#probedAt);
    return Math.max(0, Math.ceil(interval * this.#jitter) - elapsed);
  }

  started(): void {
    if (!this.#down) {
      this.#bucket.take();
      return;
    }
    this.#probedAt = this.#now();
    this.#probes += 1;
    this.#jitter = 0.75 + this.#random() * 0.5;
  }

  /** STS answered, with credentials or with a refusal. True if that ends an outage. */
  answered(): boolean {
    const now = this.#now();
    this.#answeredAt = now;
    this.#failing.clear();
    if (!this.#down) return false;
    this.#down = false;
    const seconds = Math.round((now - this.#downSince) / 1000);
    this.#log.info({ outageSeconds: seconds }, "STS answers again");
    return true;
  }

  throttled(startedAt: number): void {
    const now = this.#now();
    this.#grow(now);
    // The calls that were under way when we slowed down say nothing about the new rate.
    if (startedAt < this.#throttledAt) return;
    this.#throttledAt = now;
    this.#rate = Math.max(Math.min(leastCallsPerSecond, this.#full), this.#rate / 2);
    this.#bucket.setRate(this.#rate, now);
    this.#bucket.empty(now);
    if (this.#throttled) return;
    this.#throttled = true;
    this.#log.warn(
      { callsPerSecond: this.#rate },
      "STS throttles this account: all calls slow down until it stops",
    );
  }

  /** No usable answer for the request with this key. `reason` is for the log. */
  failed(key: string, startedAt: number, reason: string): void {
    // It was sent before the last answer came: it tells of an outage that is over.
    if (startedAt < this.#answeredAt || this.#down) return;
    this.#failing.add(key);
    if (this.#failing.size < rolesForAnOutage) return;
    const now = this.#now();
    this.#down = true;
    this.#downSince = now;
    this.#probedAt = now;
    this.#probes = 0;
    this.#log.warn(
      { reason },
      "STS does not answer: credentials are served until they expire, and STS is probed",
    );
  }

  #grow(now: number): void {
    const elapsed = Math.max(0, now - this.#rateAt);
    this.#rateAt = now;
    if (this.#rate >= this.#full) return;
    this.#rate = Math.min(this.#full, this.#rate + (elapsed / recoveryMs) * this.#full);
    this.#bucket.setRate(this.#rate, now);
    if (this.#rate < this.#full || !this.#throttled) return;
    this.#throttled = false;
    this.#log.info({ callsPerSecond: this.#rate }, "STS no longer throttles this account");
  }
}
