/** Counts durations by size, for a histogram. */
export class Durations {
  /** Upper bounds in seconds, ascending. */
  readonly #bounds: readonly number[];
  /** Of the durations up to each bound, and above the one before; the last is of those above all bounds. */
  readonly #counts: Float64Array;
  #sumSeconds = 0;

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = new Float64Array(bounds.length + 1);
  }

  note(durationMs: number): void {
    // Two clocks of a suspended host may differ.
    const seconds = Math.max(0, durationMs) / 1000;
    const found = this.#bounds.findIndex((bound) => seconds <= bound);
    const at = found === -1 ? this.#bounds.length : found;
    this.#counts[at] = (this.#counts[at] ?? 0) + 1;
    this.#sumSeconds += seconds;
  }

  /** Cumulative, as Prometheus has it. */
  snapshot(): {
    readonly buckets: readonly { readonly le: number; readonly count: number }[];
    readonly count: number;
    readonly sumSeconds: number;
  } {
    let count = 0;
    const buckets = this.#bounds.map((le, at) => {
      count += this.#counts[at] ?? 0;
      return { le, count };
    });
    return { buckets, count: count + (this.#counts.at(-1) ?? 0), sumSeconds: this.#sumSeconds };
  }
}
