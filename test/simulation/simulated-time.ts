import type { Schedule } from "../../src/credentials/scheduler.ts";

/** `run` returns false if it set off nothing that goes on in promises, which saves waiting for them. */
type Alarm = { readonly at: number; readonly order: number; run: (() => unknown) | undefined };

/** A clock that its own alarms move: it skips the time in which nothing happens. */
export class SimulatedTime {
  #now: number;
  #order = 0;
  /** A binary heap: the earliest first, and at the same time the one that was set first. */
  readonly #heap: Alarm[] = [];

  constructor(startMs: number) {
    this.#now = startMs;
  }

  readonly now = (): number => this.#now;

  readonly schedule: Schedule = (delayMs, run) => {
    const alarm: Alarm = { at: this.#now + Math.max(0, delayMs), order: this.#order++, run };
    this.#push(alarm);
    return () => {
      alarm.run = undefined;
    };
  };

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.schedule(ms, resolve));
  }

  /** Lets everything happen up to and including this time. */
  async runUntil(endMs: number): Promise<void> {
    await settle();
    for (let first = this.#heap[0]; first !== undefined && first.at <= endMs; first = this.#heap[0]) {
      this.#pop();
      if (first.run === undefined) continue;
      this.#now = first.at;
      if (first.run() !== false) await settle();
    }
    this.#now = endMs;
  }

  runFor(ms: number): Promise<void> {
    return this.runUntil(this.#now + ms);
  }

  #push(alarm: Alarm): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(alarm);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!earlier(alarm, heap[parent])) break;
      heap[at] = heap[parent] ?? alarm;
      at = parent;
    }
    heap[at] = alarm;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      const right = heap[child + 1];
      if (right !== undefined && earlier(right, heap[child])) child += 1;
      const smaller = heap[child];
      if (smaller === undefined || !earlier(smaller, last)) break;
      heap[at] = smaller;
      at = child;
    }
    heap[at] = last;
  }
}

function earlier(a: Alarm, b: Alarm | undefined): boolean {
  return b === undefined || a.at < b.at || (a.at === b.at && a.order < b.order);
}

/** Runs the promise callbacks of an alarm: the longest chain in the cache has fewer links than this. */
async function settle(): Promise<void> {
  for (let link = 0; link < 6; link++) await null;
}

/** Random numbers from 0 to 1 that are the same in every run (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
