import { connect, type Socket } from "node:net";
import type { Container } from "../containers/container.ts";
import type { Directory } from "../containers/directory.ts";
import { lines } from "../engine/events.ts";
import type { Change } from "../engine/sync.ts";
import { explain } from "../errors.ts";
import type { Log } from "../log.ts";
import { singleFlight } from "../single-flight.ts";
import {
  containerOf,
  decode,
  type FollowedEngine,
  type GuardMessage,
  heartbeatMs,
  maxMessageBytes,
  type Protection,
} from "./protocol.ts";

export type GuardState = {
  readonly connected: boolean;
  /** Milliseconds since the epoch, by the wall clock of that moment: when `connected` changed last. */
  readonly since: number;
  /** Why it is not connected; undefined while it is. */
  readonly lastError: string | undefined;
  /** Of the guard's executable; undefined before the first connection. */
  readonly version: string | undefined;
  /** As the guard told last. */
  readonly engines: readonly FollowedEngine[];
};

type Options = {
  /** Path of the guard's socket. */
  readonly path: string;
  readonly directory: Directory;
  readonly log: Log;
  readonly onChange: (change: Change) => void;
  /** How long the lock stays in force after the guard was last heard, in milliseconds. */
  readonly lockLastsMs: number;
  /** For durations, in milliseconds; never goes back and never jumps. */
  readonly now: () => number;
  readonly wallNow: () => number;
};

const retryMs = { first: 50, longest: 1_000 };
/** A guard that says nothing for so long hangs. */
const silenceMs = 3 * heartbeatMs;
/** The whole state is asked for no more often than this. */
const refreshEveryMs = 500;
/** How long a refresh keeps those who wait for it. */
const refreshMs = 2_000;
/** Without a guard by then, the service says READY all the same, and tells its clients to come again. */
const settleMs = 3_000;

/**
 * Keeps the directory true to what the guard publishes. While the guard is away, what is known stays in force, as it does
 * while an engine is away.
 */
export class GuardSubscriber {
  readonly #options: Options;
  readonly #settled = Promise.withResolvers<void>();
  /** By container id. */
  readonly #protections = new Map<string, Protection>();
  /** Engines that the guard has named a container of. */
  readonly #owners = new Set<string>();
  #state: GuardState;
  #heardAt: number;
  #socket: Socket | undefined;
  #isClosed = false;
  /** Settles with the next whole state. */
  #snapshot = Promise.withResolvers<void>();
  #refreshedAt = Number.NEGATIVE_INFINITY;
  /** This connection was closed to request the state again, which is not a failure. */
  #isRefreshing = false;
  #wake: (() => void) | undefined;
  readonly #run: Promise<void>;

  /** Compares with the engines now, for a caller that is not known: connects again, which is how the guard is asked. */
  readonly refresh: () => Promise<void>;

  constructor(options: Options) {
    this.#options = options;
    this.#heardAt = options.now();
    this.#state = {
      connected: false,
      since: options.wallNow(),
      lastError: undefined,
      version: undefined,
      engines: [],
    };
    this.refresh = singleFlight(() => this.#refresh());
    setTimeout(this.#settled.resolve, settleMs).unref();
    this.#run = this.#stayConnected();
  }

  /** Settles when the first whole state is in the directory, or the guard was found absent or silent. */
  get settled(): Promise<void> {
    return this.#settled.promise;
  }

  state(): GuardState {
    return this.#state;
  }

  /** What proves that the container's addresses are its own, as far as the guard's lock does. */
  protectionOf(id: string): Protection {
    if (this.#options.now() - this.#heardAt > this.#options.lockLastsMs)
      return { locked: false, reason: "the guard has not been heard for too long, and its lock has lapsed" };
    return this.#protections.get(id) ?? { locked: false, reason: "the guard has not named the container" };
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#socket?.destroy();
    this.#wake?.();
    await this.#run;
  }

  async #refresh(): Promise<void> {
    await this.#sleep(Math.min(refreshEveryMs, this.#refreshedAt + refreshEveryMs - this.#options.now()));
    if (this.#isClosed) return;
    this.#refreshedAt = this.#options.now();
    const { promise } = this.#snapshot;
    this.#isRefreshing = true;
    this.#socket?.destroy();
    this.#wake?.();
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([promise, new Promise((resolve) => (timer = setTimeout(resolve, refreshMs)))]);
    clearTimeout(timer);
  }

  async #stayConnected(): Promise<void> {
    let failures = 0;
    while (!this.#isClosed) {
      this.#isRefreshing = false;
      try {
        await this.#follow();
      } catch (error) {
        if (this.#isClosed) return;
        if (this.#isRefreshing && this.#state.connected) {
          failures = 0;
          continue;
        }
        if (this.#state.connected) failures = 0;
        this.#disconnected(error);
        await this.#pause(Math.min(retryMs.longest, retryMs.first * 2 ** Math.min(failures, 10)));
        failures += 1;
      }
    }
  }

  /** One connection. Never returns while it lives; rejects when it ends. */
  async #follow(): Promise<never> {
    const socket = connect(this.#options.path);
    this.#socket = socket;
    socket.setTimeout(silenceMs, () =>
      socket.destroy(new Error(`it has said nothing for ${silenceMs / 1_000} s`)),
    );
    /** Named since the connection began, by owner. */
    const named = new Map<string, Set<string>>();
    let greeted = false;
    try {
      for await (const line of lines(socket, maxMessageBytes)) {
        this.#heardAt = this.#options.now();
        const message = decode(line);
        if (!greeted && message.type !== "hello") throw new Error("its first message is no greeting");
        greeted = true;
        this.#apply(message, named);
      }
    } finally {
      socket.destroy();
    }
    throw new Error("it ended the connection");
  }

  #apply(message: GuardMessage, named: Map<string, Set<string>>): void {
    switch (message.type) {
      case "hello":
        this.#state = { ...this.#state, version: message.version };
        return;
      case "heartbeat":
        return;
      case "engines":
        this.#state = { ...this.#state, engines: message.engines };
        return;
      case "container": {
        const container = containerOf(message.container);
        const ids = named.get(message.owner) ?? new Set();
        named.set(message.owner, ids.add(container.id));
        this.#owners.add(message.owner);
        this.#protections.set(container.id, message.protection);
        this.#upsert(message.owner, container);
        return;
      }
      case "gone":
        named.get(message.owner)?.delete(message.id);
        this.#remove(message.owner, message.id);
        return;
      case "snapshot-end":
        this.#finishSnapshot(named);
        return;
      default:
        message satisfies never;
    }
  }

  #upsert(owner: string, container: Container): void {
    const { directory, onChange } = this.#options;
    const before = directory.owned(owner).get(container.id);
    if (!directory.upsert(owner, container)) return;
    const started = container.pid !== 0 && before?.pid !== container.pid;
    const kind = started ? "started" : before === undefined ? "appeared" : "updated";
    onChange({ kind, container });
  }

  #remove(owner: string, id: string): void {
    const { directory, onChange } = this.#options;
    const container = directory.remove(owner, id);
    this.#protections.delete(id);
    if (container !== undefined) onChange({ kind: "gone", container });
  }

  /** An engine that is no longer followed has no containers: it is not in the configuration any more. */
  #finishSnapshot(named: ReadonlyMap<string, ReadonlySet<string>>): void {
    const { directory, log, path, wallNow } = this.#options;
    for (const owner of this.#owners) {
      for (const id of directory.owned(owner).keys())
        if (named.get(owner)?.has(id) !== true) this.#remove(owner, id);
    }
    if (!this.#state.connected) {
      log.info({ path, version: this.#state.version }, "following the guard");
      this.#state = { ...this.#state, connected: true, since: wallNow(), lastError: undefined };
    }
    this.#settled.resolve();
    this.#snapshot.resolve();
    this.#snapshot = Promise.withResolvers();
  }

  #disconnected(error: unknown): void {
    const { log, path, wallNow } = this.#options;
    const lastError = explain(error);
    const { connected, since, lastError: before } = this.#state;
    this.#state = { ...this.#state, connected: false, since: connected ? wallNow() : since, lastError };
    // Once for each way of failing, not for each attempt.
    log[connected || lastError !== before ? "warn" : "debug"](
      { path, error: lastError },
      "the guard cannot be followed; known containers are served, new ones wait",
    );
  }

  /** Ends early when the state is asked for. */
  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#wake?.(), ms);
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = undefined;
        resolve();
      };
    });
  }

  #sleep(ms: number): Promise<void> {
    return ms <= 0 ? Promise.resolve() : new Promise((resolve) => setTimeout(resolve, ms));
  }
}
