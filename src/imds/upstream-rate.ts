/** How far a service that throttles can bring the rate down. A neighbour's request then waits a tenth of a second and not for ever. */
const slowest = 0.1;
/** Throttled answers come in swarms: those of one second are one message. */
const slowDownEveryMs = 1000;
/** What of the full rate comes back in each second without a throttled answer. */
const recoveryPerSecond = 0.1;

/**
 * The pace of all requests to the real service together: a token bucket of half a second's worth. Half of that is a reserve, which only those
 * may use who have asked for little lately: however much one container asks, another's first requests find a token.
 * A service that throttles halves the pace; it recovers in seconds.
 */
export class UpstreamRate {
  readonly #perSecond: number;
  readonly #burst: number;
  readonly #reserve: number;
  readonly #now: () => number;
  #tokens: number;
  #at: number;
  #pace = 1;
  #slowedAt = Number.NEGATIVE_INFINITY;

  /** @param now milliseconds; only differences count, so it should be a clock that is never set */
  constructor(perSecond: number, now: () => number) {
    this.#perSecond = perSecond;
    this.#burst = Math.max(1, perSecond / 2);
    this.#reserve = Math.min(this.#burst / 2, this.#burst - 1);
    this.#now = now;
    this.#tokens = this.#burst;
    this.#at = now();
  }

  /** Requests a second, at the moment. */
  get perSecond(): number {
    this.#fill();
    return this.#perSecond * this.#pace;
  }

  /** Milliseconds until a request may go out; 0: now. `spare`: without touching the reserve. */
  delay(spare: boolean): number {
    this.#fill();
    const missing = 1 + (spare ? this.#reserve : 0) - this.#tokens;
    // With a hair's breadth to spare: 0.9999999 tokens after exactly one interval is one.
    return missing <= 1e-6 ? 0 : Math.ceil((missing / (this.#perSecond * this.#pace)) * 1000);
  }

  /** A request goes out. Those of the proxy itself do not wait, so there may be a debt; never a long one. */
  charge(): void {
    this.#fill();
    this.#tokens = Math.max(-this.#burst, this.#tokens - 1);
  }

  /** The service said 429 or 503, or let us wait in vain. */
  throttled(): void {
    this.#fill();
    const now = this.#now();
    if (now - this.#slowedAt < slowDownEveryMs) return;
    this.#slowedAt = now;
    this.#pace = Math.max(slowest, this.#pace / 2);
  }

  #fill(): void {
    const now = this.#now();
    const seconds = Math.max(0, now - this.#at) / 1000;
    this.#at = now;
    this.#tokens = Math.min(this.#burst, this.#tokens + seconds * this.#perSecond * this.#pace);
    this.#pace = Math.min(1, this.#pace + seconds * recoveryPerSecond);
  }
}
