import type { ServerResponse } from "node:http";
import type { Answer } from "./answers.ts";
import { UpstreamBusy, UpstreamError } from "./upstream-answer.ts";
import { type Queued, queueLimits, type UpstreamQueue } from "./upstream-queue.ts";

/**
 * How long a request may be queued: SDKs give up after one to five seconds, and the service needs some of
 * that time.
 */
const maxQueuedMs = 2000;

/** The client's response; it closes when the client disconnects. */
export type Client = Pick<ServerResponse, "once" | "off" | "closed">;

type Waiter<T> = {
  readonly resolve: (answer: T) => void;
  readonly reject: (error: unknown) => void;
  /**
   * The request has left the queue: ends the deadline, and the client no longer leaves the queue when it
   * closes.
   */
  readonly settle: () => void;
};

/** One request to the service, and the clients that wait for its answer. */
class Flight<T> implements Queued {
  /** Waiting clients of each container. */
  readonly askers = new Map<string, number>();
  readonly waiters = new Set<Waiter<T>>();
  readonly #ask: (by: string | undefined) => Promise<T>;
  readonly #over: () => void;
  started = false;

  constructor(ask: (by: string | undefined) => Promise<T>, over: () => void) {
    this.#ask = ask;
    this.#over = over;
  }

  readonly start = async (by: string | undefined): Promise<void> => {
    this.started = true;
    for (const waiter of this.waiters) waiter.settle();
    try {
      const answer = await this.#ask(by);
      for (const { resolve } of this.waiters) resolve(answer);
    } catch (error) {
      for (const { reject } of this.waiters) reject(error);
    } finally {
      this.#over();
    }
  };

  /** No client waits for it any more. */
  abandon(): void {
    this.#over();
  }

  fail(error: unknown): void {
    for (const waiter of this.waiters) {
      waiter.settle();
      waiter.reject(error);
    }
  }
}

/** Requests to the real service, in flight or queued. Concurrent requests for one path are one. */
export class UpstreamFlights {
  readonly #queue: UpstreamQueue;
  readonly #waitMs: number;
  readonly #joined = new Map<string, Flight<Answer>>();
  readonly #alone = new Set<Pick<Flight<unknown>, "started" | "fail">>();

  /** @param timeoutMs how long the service may take to answer */
  constructor(queue: UpstreamQueue, timeoutMs: number) {
    this.#queue = queue;
    this.#waitMs = Math.min(timeoutMs, maxQueuedMs);
  }

  /**
   * Concurrent requests for `path` share one request to the service; a failure rejects all of them.
   * @param container undefined for the proxy itself, which does not queue
   * @param ask called with the container whose turn started the request, and all containers that wait for it
   */
  join(
    path: string,
    container: string | undefined,
    ask: (by: string | undefined, askers: ReadonlyMap<string, unknown>) => Promise<Answer>,
    client?: Client,
  ): Promise<Answer> {
    const flying = this.#joined.get(path);
    if (flying !== undefined) return this.#wait(path, flying, container, client);
    const flight: Flight<Answer> = new Flight(
      (by) => ask(by, flight.askers),
      () => this.#joined.delete(path),
    );
    this.#joined.set(path, flight);
    return this.#wait(path, flight, container, client);
  }

  /** A request for one client. */
  alone<T>(what: string, container: string, ask: () => Promise<T>, client: Client): Promise<T> {
    const flight = new Flight<T>(ask, () => this.#alone.delete(flight));
    this.#alone.add(flight);
    return this.#wait(what, flight, container, client);
  }

  close(): void {
    this.#queue.close();
    const closed = new UpstreamError(503, "asking the metadata service: the proxy is stopping");
    for (const flight of [...this.#joined.values(), ...this.#alone]) if (!flight.started) flight.fail(closed);
  }

  #wait<T>(what: string, flight: Flight<T>, container: string | undefined, client?: Client): Promise<T> {
    return new Promise((resolve, reject) => {
      let deadline: NodeJS.Timeout | undefined;
      const settle = () => {
        clearTimeout(deadline);
        client?.off("close", leave);
      };
      const waiter = { resolve, reject, settle };
      const giveUp = (error: UpstreamError) => {
        settle();
        this.#leave(flight, waiter, container);
        reject(error);
      };
      const leave = () =>
        giveUp(new UpstreamError(503, `asking for ${what}: the client closed the connection`));
      flight.waiters.add(waiter);
      if (container === undefined) {
        if (!flight.started) this.#queue.startNow(flight);
        return;
      }
      flight.askers.set(container, (flight.askers.get(container) ?? 0) + 1);
      if (flight.started) return;
      // It may have closed while the caller was identified; there will be no second `close` event.
      if (client?.closed) return leave();
      if (!this.#queue.add(container, flight)) {
        const most = `${queueLimits.waitingPerContainer} at most`;
        giveUp(new UpstreamBusy(`asking for ${what}: too many of its requests are waiting (${most})`));
      } else if (!flight.started) {
        const late = `asking for ${what}: its turn did not come within ${this.#waitMs} ms`;
        deadline = setTimeout(() => giveUp(new UpstreamBusy(late)), this.#waitMs);
        client?.once("close", leave);
      }
    });
  }

  #leave<T>(flight: Flight<T>, waiter: Waiter<T>, container: string | undefined): void {
    flight.waiters.delete(waiter);
    if (container !== undefined) {
      const others = (flight.askers.get(container) ?? 1) - 1;
      if (others > 0) flight.askers.set(container, others);
      else {
        this.#queue.remove(container, flight);
        flight.askers.delete(container);
      }
    }
    if (flight.waiters.size === 0) flight.abandon();
  }
}
