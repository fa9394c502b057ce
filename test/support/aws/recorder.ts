/** Keeps the last entries only, so that memory stays bounded in a long run. */
export class Recorder<Entry> {
  readonly #limit: number;
  #entries: Entry[] = [];
  #total = 0;

  /** With a limit of 0 entries are counted but not kept. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  add(entry: Entry): void {
    this.#total += 1;
    if (this.#limit === 0) return;
    this.#entries.push(entry);
    // Trim at twice the limit: a shift for each entry would move the whole array each time.
    if (this.#entries.length >= this.#limit * 2) this.#entries = this.#entries.slice(-this.#limit);
  }

  /** The last entries, oldest first. */
  list(): readonly Entry[] {
    return this.#limit === 0 ? [] : this.#entries.slice(-this.#limit);
  }

  /** The number of entries added since the start or the last `clear`, kept or not. */
  get total(): number {
    return this.#total;
  }

  clear(): void {
    this.#entries = [];
    this.#total = 0;
  }
}
