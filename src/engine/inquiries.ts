import pLimit from "p-limit";

/** How many questions of one sort are at the engine at once. */
const atOnce = 8;

type Mark = { inFlight: number };

/**
 * Questions about containers whose answers count only if nothing happened to the container since they were asked: an answer that an event
 * overtook tells of a past that the directory has left.
 */
export class Inquiries {
  readonly #onFailure: (id: string, error: unknown) => void;
  /** An inspect may wait for the container's lock in the engine; an announcement is in a hurry, and does not queue behind it. */
  readonly #limits = { inspect: pLimit(atOnce), announcement: pLimit(atOnce) };
  /** Of containers with a question under way. */
  readonly #marks = new Map<string, Mark>();
  #stopped = false;

  constructor(onFailure: (id: string, error: unknown) => void) {
    this.#onFailure = onFailure;
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  /** Something happened to this container: what was asked before does not count any more. */
  overtake(id: string): void {
    this.#marks.delete(id);
  }

  stop(): void {
    this.#stopped = true;
  }

  /** Undefined where the engine failed, or where the answer does not count. */
  async ask<T>(
    sort: "inspect" | "announcement",
    id: string,
    question: () => Promise<T>,
  ): Promise<T | undefined> {
    let answer: T | undefined;
    let mark: Mark = { inFlight: 0 };
    try {
      answer = await this.#limits[sort](async () => {
        if (this.#stopped) return undefined;
        // Only from here on can the answer be older than an event.
        mark = this.#marks.get(id) ?? mark;
        mark.inFlight += 1;
        this.#marks.set(id, mark);
        return await question();
      });
    } catch (error) {
      if (!this.#stopped) this.#onFailure(id, error);
    }
    mark.inFlight -= 1;
    const counts = this.#marks.get(id) === mark;
    if (counts && mark.inFlight === 0) this.#marks.delete(id);
    return counts && !this.#stopped ? answer : undefined;
  }
}
