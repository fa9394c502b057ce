/**
 * The lowest factor that throttling reduces the rate to, so that another container's request still waits only
 * a tenth of a second.
 */
const lowestFactor = 0.1;
/** Throttled answers come in bursts; those within a second count once. */
const slowDownEveryMs = 1000;
/** Part of the full rate that is restored in each second without a throttled answer. */
const recoveryPerSecond = 0.1;

/**
 * The rate of all requests to the real service together: a token bucket that holds half a second's worth.
 * Half of that is a reserve for containers that have made few requests lately: however many one container
 * makes, another's first requests find a token. Throttling by the service halves the rate; it recovers in
 * seconds.
 */
export class UpstreamRate {
  readonly #perSecond: number;
  readonly #burst: number;
  readonly #reserve: number;
  readonly #now: () => number;
  #tokens: number;
  #at: number;
  #factor = 1;
  #slowedAt = Number.NEGATIVE_INFINITY;

  /** @param now milliseconds of a monotonic clock; only differences count */
  constructor(perSecond: number, now: () => number) {
    this.#perSecond = perSecond;
    this.#burst = Math.max(1, perSecond / 2);
    this.#reserve = Math.min(this.#burst / 2, this.#burst - 1);
    this.#now = now;
    this.#tokens = this.#burst;
    this.#at = now();
  }

  /** The current rate, in requests a second. */
  get perSecond(): number {
    this.#fill();
    return this.#perSecond * this.#factor;
  }

  /** Milliseconds until a request may be sent; 0 for now. `spare`: without using the reserve. */
  delay(spare: boolean): number {
    this.#fill();
    const missing = 1 + (spare ? this.#reserve : 0) - this.#tokens;
    // The tolerance absorbs rounding: after exactly one interval there may be 0.9999999 tokens.
    return missing <= 1e-6 ? 0 : Math.ceil((missing / (this.#perSecond * this.#factor)) * 1000);
  }

  /**
   * Counts a request. The proxy's own requests do not wait, so the balance may be negative, within a limit.
   */
  charge(): void {
    this.#fill();
    this.#tokens = Math.max(-this.#burst, this.#tokens - 1);
  }

  /** The service answered 429 or 503, or timed out. */
  throttled(): void {
    this.#fill();
    const now = this.#now();
    if (now - this.#slowedAt < slowDownEveryMs) return;
    this.#slowedAt = now;
    this.#factor = Math.max(lowestFactor, this.#factor / 2);
  }

  #fill(): void {
    const now = this.#now();
    const seconds = Math.max(0, now - this.#at) / 1000;
    this.#at = now;
    this.#tokens = Math.min(this.#burst, this.#tokens + seconds * this.#perSecond * this.#factor);
    this.#factor = Math.min(1, this.#factor + seconds * recoveryPerSecond);
  }
}
