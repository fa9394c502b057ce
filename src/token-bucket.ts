/**
 * A token bucket that holds one second's worth, and at least one. Times are milliseconds; the rate is per
 * second and may change.
 */
export class TokenBucket {
  #rate: number;
  #tokens: number;
  #filledAt: number;

  constructor(rate: number, now: number) {
    this.#rate = rate;
    this.#tokens = Math.max(1, rate);
    this.#filledAt = now;
  }

  setRate(rate: number, now: number): void {
    this.#fill(now);
    this.#rate = rate;
    this.#tokens = Math.min(this.#tokens, Math.max(1, rate));
  }

  empty(now: number): void {
    this.#tokens = 0;
    this.#filledAt = now;
  }

  /** Milliseconds until a token is available; 0 if there is one now. */
  delay(now: number): number {
    this.#fill(now);
    // The tolerance absorbs rounding: after exactly one interval there may be 0.9999999 tokens.
    return this.#tokens >= 1 - 1e-6 ? 0 : Math.ceil(((1 - this.#tokens) / this.#rate) * 1000);
  }

  take(): void {
    this.#tokens -= 1;
  }

  #fill(now: number): void {
    const capacity = Math.max(1, this.#rate);
    // If the clock was set back, no tokens are added or removed.
    const elapsedMs = Math.max(0, now - this.#filledAt);
    this.#tokens = Math.min(capacity, this.#tokens + (elapsedMs / 1000) * this.#rate);
    this.#filledAt = now;
  }
}
