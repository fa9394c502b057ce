import pLimit from "p-limit";

/** Of each kind. */
const maxConcurrent = 8;

/**
 * Valid until an event for its container arrives. Shared by the queries about a container that are in flight.
 */
type Ticket = { inFlight: number };

/**
 * Queries to the engine about single containers. Discards an answer if an event for that container arrived
 * after the query was sent: the directory is already newer than the answer.
 */
export class Queries {
  readonly #onFailure: (id: string, error: unknown) => void;
  /**
   * An inspect may wait for the container's lock in the engine. An announcement must come before the
   * container runs, so it does not queue behind inspects.
   */
  readonly #limits = { inspect: pLimit(maxConcurrent), announcement: pLimit(maxConcurrent) };
  /** By container id, while a query is in flight and no event has arrived. */
  readonly #tickets = new Map<string, Ticket>();
  #stopped = false;

  constructor(onFailure: (id: string, error: unknown) => void) {
    this.#onFailure = onFailure;
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  /** An event for this container arrived: the answers of queries in flight are stale. */
  invalidate(id: string): void {
    this.#tickets.delete(id);
  }

  /** Sends no more queries and discards the answers of those in flight. */
  stop(): void {
    this.#stopped = true;
  }

  /** Calls `apply` with the answer, unless it is stale or the engine failed. Resolves in any case. */
  async run<T>(
    kind: "inspect" | "announcement",
    id: string,
    query: () => Promise<T>,
    apply: (answer: T) => void,
  ): Promise<void> {
    await this.#limits[kind](async () => {
      if (this.#stopped) return;
      // Taken when the query is sent, not when it is queued: until then an event cannot make it stale.
      const ticket = this.#tickets.get(id) ?? { inFlight: 0 };
      this.#tickets.set(id, ticket);
      ticket.inFlight += 1;
      const answer = await query().then(
        (value) => ({ ok: true, value }) as const,
        (error: unknown) => ({ ok: false, error }) as const,
      );
      const isStale = this.#tickets.get(id) !== ticket;
      ticket.inFlight -= 1;
      if (!isStale && ticket.inFlight === 0) this.#tickets.delete(id);
      if (this.#stopped) return;
      if (!answer.ok) this.#onFailure(id, answer.error);
      // In the same tick as the check, so that no event can be handled between the two.
      else if (!isStale) apply(answer.value);
    });
  }
}
