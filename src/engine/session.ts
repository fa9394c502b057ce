import { explain } from "../errors.ts";
import type { Engine } from "./client.ts";
import { readEvent } from "./events.ts";
import { Follower, type FollowerOptions } from "./sync.ts";

type SessionOptions = Omit<FollowerOptions, "onFailure"> & {
  /** The wall clock, milliseconds since the epoch: what the engine's own clock shows, or nearly. */
  readonly wallNow: () => number;
  readonly compareEveryMs: number;
  /** The engine answers, but failed at something; undefined when a whole comparison went well again. */
  readonly onTrouble: (error: string | undefined) => void;
};

/** After a refusal of the engine (a 500) the comparison comes sooner. */
const compareAfterTroubleMs = 2_000;
/** A step and no drift: both clocks are slewed alike. */
const stepMs = 1_000;

/** One connection to an engine: subscribed, listed, followed, and compared with the list now and then, until it is of no use any more. */
export class Session {
  readonly #options: SessionOptions;
  readonly #engine: Engine;
  readonly #follower: Follower;
  readonly #end = Promise.withResolvers<never>();
  #comparing: Promise<number> | undefined;
  #comparedAt = Number.NEGATIVE_INFINITY;
  #inTrouble = false;
  /** The wall clock less the clock for durations, when the events were asked for: constant, unless somebody sets the one. */
  #offset = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#engine = options.engine;
    this.#follower = new Follower({ ...options, onFailure: (error, status) => this.#fail(error, status) });
    // Awaited beside other things only; a rejection that comes while nobody does is seen by the next who does.
    this.#end.promise.catch(() => {});
  }

  /** Rejects when the connection has failed or was closed. */
  get ended(): Promise<never> {
    return this.#end.promise;
  }

  /** Resolves when the directory has the engine's containers. */
  async begin(): Promise<void> {
    // Subscribed before listing, and from a little earlier than now: nothing falls between the two.
    const { now, wallNow } = this.#options;
    this.#offset = wallNow() - now();
    const asked = this.#engine.events(Math.floor(wallNow() / 1000) - 2);
    const events = await Promise.race([asked, this.ended]);
    this.#read(events).catch(this.#end.reject);
    await Promise.race([this.#comparison(), this.ended]);
    const tick = Math.min(compareAfterTroubleMs, this.#options.compareEveryMs);
    this.#timer = setInterval(() => void this.#compareWhenDue(), tick);
  }

  /** Compares with the engine's list now. Shared among those who ask while one is under way; never rejects: a failure ends the session. */
  async compare(): Promise<void> {
    await this.#comparison().catch(this.#end.reject);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#follower.stop();
    this.#engine.close();
    this.#end.reject(new Error("closed"));
  }

  async #compareWhenDue(): Promise<void> {
    const { now, wallNow } = this.#options;
    // Podman leaves out what is older than the time that was asked for: after the clock was set back, everything until it is there again.
    if (wallNow() - now() < this.#offset - stepMs) {
      this.#end.reject(new Error("following the engine's events: the clock was set back"));
      return;
    }
    const isDue = now() - this.#comparedAt >= this.#options.compareEveryMs;
    if (!isDue && !this.#inTrouble) return;
    try {
      const unheard = await this.#comparison();
      if (unheard > 0)
        throw new Error(`following the engine's events: ${unheard} containers came or went without one`);
    } catch (error) {
      this.#end.reject(error);
    }
  }

  #comparison(): Promise<number> {
    this.#comparing ??= this.#compare().finally(() => {
      this.#comparing = undefined;
    });
    return this.#comparing;
  }

  async #compare(): Promise<number> {
    this.#comparedAt = this.#options.now();
    const wasInTrouble = this.#inTrouble;
    this.#inTrouble = false;
    const unheard = await this.#follower.sync();
    if (wasInTrouble && !this.#inTrouble) this.#options.onTrouble(undefined);
    return unheard;
  }

  /** Never returns while the stream lives; rejects when it ends. */
  async #read(events: AsyncGenerator<string>): Promise<never> {
    try {
      for await (const line of events) {
        const event = readEvent(line);
        if (event !== undefined) this.#follower.handle(event);
      }
    } catch (cause) {
      throw new Error("following the engine's events", { cause });
    }
    throw new Error("following the engine's events: it ended the stream");
  }

  #fail(error: unknown, status: number | undefined): void {
    if (status === undefined) {
      this.#end.reject(error);
      return;
    }
    this.#inTrouble = true;
    this.#options.onTrouble(explain(error));
  }
}
