/** Lets so many pieces of work run at once; the others wait in the order in which they came. */
export class Turns {
  readonly #atOnce: number;
  readonly #waiting: Array<() => void> = [];
  #running = 0;

  constructor(atOnce: number) {
    this.#atOnce = atOnce;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running >= this.#atOnce) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#running += 1;
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      // The turn is handed on, not given back: nobody who comes in between can take it.
      if (next === undefined) this.#running -= 1;
      else next();
    }
  }
}
