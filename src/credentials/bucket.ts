/** A token bucket that holds one second's worth, and at least one. Times are milliseconds; the rate is per second and may change. */
export class TokenBucket {
  #rate: number;
  #tokens: number;
  #at: number;

  constructor(rate: number, now: number) {
    this.#rate = rate;
    this.#tokens = Math.max(1, rate);
    this.#at = now;
  }

  setRate(rate: number, now: number): void {
    this.#fill(now);
    this.#rate = rate;
    this.#tokens = Math.min(this.#tokens, Math.max(1, rate));
  }

  empty(now: number): void {
    this.#tokens = 0;
    this.#at = now;
  }

  /** How long until one may be taken; 0 for now. */
  delay(now: number): number {
    this.#fill(now);
    // Rounded up and compared with a hair's breadth to spare: 0.9999999 tokens after exactly one interval is one.
    return this.#tokens >= 1 - 1e-6 ? 0 : Math.ceil(((1 - this.#tokens) / this.#rate) * 1000);
  }

  take(): void {
    this.#tokens -= 1;
  }

  #fill(now: number): void {
    const capacity = Math.max(1, this.#rate);
    // A clock that was set back fills nothing and takes nothing.
    const elapsed = Math.max(0, now - this.#at);
    this.#tokens = Math.min(capacity, this.#tokens + (elapsed / 1000) * this.#rate);
    this.#at = now;
  }
}
