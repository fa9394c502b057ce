import type { Log, LogFields } from "../log.ts";
import { TokenBucket } from "../token-bucket.ts";

export type RateState = "normal" | "throttled" | "down";

/** Below this a host with many containers could not even renew what it has. */
const minCallsPerSecond = 1;
/** How long the rate takes to recover from zero. */
const recoveryMs = 120_000;
/** If this many different roles fail and none succeeds in between, the problem is STS and not a role. */
const rolesForAnOutage = 3;
/** If STS answers within 3 s, waiting clients are served within 5 s of its return. */
const waitedProbeMs = 2_000;
const maxProbeMs = 30_000;

/**
 * Limits how fast the whole program calls STS. The rate halves when STS throttles and grows back linearly. In
 * an outage only a probe is sent now and then. One rate for all roles, because the quota is the account's.
 */
export class CallRate {
  readonly #full: number;
  readonly #now: () => number;
  readonly #random: () => number;
  readonly #log: Log;
  readonly #bucket: TokenBucket;
  /** Calls a second at `#rateAt`. */
  #rate: number;
  #rateAt: number;
  #throttledAt = Number.NEGATIVE_INFINITY;
  #answeredAt = Number.NEGATIVE_INFINITY;
  #throttled = false;
  #down = false;
  /** Keys of the requests that have failed since the last answer. */
  readonly #failing = new Set<string>();
  #downSince = 0;
  #probedAt = 0;
  /** Probes since the outage began. */
  #probes = 0;
  /** Factor of the next probe's interval. */
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

  get state(): RateState {
    this.#grow(this.#now());
    return this.#down ? "down" : this.#throttled ? "throttled" : "normal";
  }

  get callsPerSecond(): number {
    this.#grow(this.#now());
    return this.#rate;
  }

  /** Milliseconds until the next call may start; 0: now. `waitedFor`: a client waits for one of the calls. */
  delay(waitedFor: boolean): number {
    const now = this.#now();
    if (!this.#down) {
      this.#grow(now);
      return this.#bucket.delay(now);
    }
    const interval = waitedFor ? waitedProbeMs : Math.min(maxProbeMs, waitedProbeMs * 2 ** this.#probes);
    // If the clock is set back, the next probe must not be delayed by hours.
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

  /** STS answered: credentials, a refusal or throttling. Returns true if that ends an outage. */
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
    // Calls that were in flight when the rate was lowered say nothing about the new rate.
    if (startedAt < this.#throttledAt) return;
    this.#throttledAt = now;
    this.#rate = Math.max(Math.min(minCallsPerSecond, this.#full), this.#rate / 2);
    this.#bucket.setRate(this.#rate, now);
    this.#bucket.empty(now);
    if (this.#throttled) return;
    this.#throttled = true;
    this.#log.warn(
      { code: "sts-throttled", callsPerSecond: this.#rate },
      "STS throttles this account: all calls slow down until it stops",
    );
  }

  /** The request with this key got no usable answer. `reason` is for the log. */
  failed(key: string, startedAt: number, reason: LogFields): void {
    // A call that started before the last answer belongs to an outage that is over.
    if (startedAt < this.#answeredAt || this.#down) return;
    this.#failing.add(key);
    if (this.#failing.size < rolesForAnOutage) return;
    const now = this.#now();
    this.#down = true;
    this.#downSince = now;
    this.#probedAt = now;
    this.#probes = 0;
    this.#log.warn(
      { code: "sts-outage", ...reason },
      "roles cannot be assumed: cached credentials are served until they expire, and STS is probed",
    );
  }

  /** Raises a lowered rate by the time that has passed. */
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
