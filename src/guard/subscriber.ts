import { connect, type Socket } from "node:net";
import type { Container } from "../containers/container.ts";
import type { Directory } from "../containers/directory.ts";
import type { Locks, Protection } from "../containers/protection.ts";
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
  type HostState,
  heartbeatMs,
  maxMessageBytes,
} from "./protocol.ts";

export type GuardState = {
  /** Its whole state is known, and it is being followed. Stays true while the state is requested again. */
  readonly connected: boolean;
  /** When `connected` last changed, by the wall clock of that moment: milliseconds since the epoch. */
  readonly since: number;
  /** Why it is not connected; undefined while it is. */
  readonly lastError: string | undefined;
  /** The version of the guard's executable; undefined before the first connection. */
  readonly version: string | undefined;
  /** As last reported by the guard. */
  readonly engines: readonly FollowedEngine[];
  /**
   * Likewise. Undefined until it has said something about the host. Not known to be true while it is away.
   */
  readonly host: HostState | undefined;
};

type GuardTimes = {
  /** A guard that accepts a connection and does not greet within this time hangs. */
  readonly greetingMs: number;
  /** From the connection to the end of the state. The guard may compare with its engines first. */
  readonly stateMs: number;
  /** A guard that sends nothing for this long hangs. */
  readonly silenceMs: number;
  /** Without a state by then, the service reports READY all the same; its clients get 503. */
  readonly settleMs: number;
};

type Options = {
  /** Path of the guard's socket. */
  readonly path: string;
  readonly directory: Directory;
  readonly log: Log;
  readonly onChange: (change: Change) => void;
  /**
   * How long a lock is trusted after the last message of the guard, in milliseconds. Shorter than the kernel
   * keeps it in force without the guard.
   */
  readonly lockLastsMs: number;
  /** A monotonic clock in milliseconds. */
  readonly now: () => number;
  /** The wall clock, milliseconds since the epoch. */
  readonly wallNow: () => number;
  readonly times?: Partial<GuardTimes>;
};

const defaultTimes: GuardTimes = {
  greetingMs: 3_000,
  stateMs: 20_000,
  silenceMs: 3 * heartbeatMs,
  settleMs: 3_000,
};
const retryMs = { first: 50, longest: 1_000 };
/** The minimum time between two requests for the whole state. */
const refreshEveryMs = 500;
/** How long callers wait for a refresh, since a client waits with them. */
const refreshMs = 2_000;
/**
 * A refresh that takes longer means that the guard may hang, and that unknown callers may be new containers.
 * Well below the time that these wait (imds/identity.ts).
 */
const promptMs = 1_000;
/** A process that did not run for this long finds messages that say nothing about now. */
const standstillMs = 10_000;
const tickMs = 1_000;
/** For one container. */
const maxWaiting = 64;

const notNamed: Protection = { locked: false, reason: "the guard does not know the container" };
const notNamedYet: Protection = {
  locked: false,
  reason: "the guard has been restarted and has not reported the container yet",
};
const lapsed: Protection = {
  locked: false,
  reason: "the guard has not been heard for too long, so its lock may have lapsed",
};

/**
 * Keeps the directory in step with what the guard publishes. While the guard is away, what is known stays in
 * force, as it does while an engine is away.
 */
export class GuardSubscriber implements Locks {
  readonly #options: Options;
  readonly #times: GuardTimes;
  readonly #settled = Promise.withResolvers<void>();
  /** By container id. */
  readonly #protections = new Map<string, Protection>();
  /** By container id: ends a wait. */
  readonly #waiting = new Map<string, Set<() => void>>();
  /** Engines with containers in the directory. */
  readonly #owners = new Set<string>();
  /**
   * Engines that were not connected at the end of a state, which therefore said nothing about what is gone.
   */
  readonly #unconfirmed = new Set<string>();
  #state: GuardState;
  #heardAt = Number.NEGATIVE_INFINITY;
  /** When this process was last seen running. */
  #ranAt: number;
  readonly #ticks: NodeJS.Timeout;
  #socket: Socket | undefined;
  #isClosed = false;
  /** Resolves with the next whole state. */
  #snapshot = Promise.withResolvers<void>();
  /** Since when there is no connection with a whole state; undefined while there is one. */
  #incompleteSince: number | undefined;
  #refreshedAt = Number.NEGATIVE_INFINITY;
  /**
   * The connection was closed to request the state again. This is not a failure, and the guard is the same.
   */
  #isRefreshing = false;
  #wake: (() => void) | undefined;
  readonly #run: Promise<void>;

  /**
   * Makes the guard compare with its engines now, for a caller that is unknown. Concurrent calls share one
   * comparison. Resolves when it is done, or within seconds. Never rejects.
   */
  readonly refresh: () => Promise<void>;

  constructor(options: Options) {
    this.#options = options;
    this.#times = { ...defaultTimes, ...options.times };
    this.#ranAt = options.now();
    this.#incompleteSince = options.now();
    this.#state = {
      connected: false,
      since: options.wallNow(),
      lastError: undefined,
      version: undefined,
      engines: [],
      host: undefined,
    };
    this.refresh = singleFlight(() => this.#refresh());
    setTimeout(this.#settled.resolve, this.#times.settleMs).unref();
    this.#ticks = setInterval(() => this.#noteRunning(), tickMs).unref();
    this.#run = this.#stayConnected();
  }

  /** Resolves when the first whole state is in the directory, or has not come in time. */
  get settled(): Promise<void> {
    return this.#settled.promise;
  }

  state(): GuardState {
    return this.#state;
  }

  /** Whether every container of every engine is known. */
  complete(): boolean {
    const { connected, engines } = this.#state;
    const isPrompt =
      this.#incompleteSince === undefined || this.#options.now() - this.#incompleteSince < promptMs;
    return connected && isPrompt && engines.length > 0 && engines.every((engine) => engine.connected);
  }

  protectionOf(id: string): Protection {
    const protection = this.#protections.get(id) ?? notNamed;
    if (!protection.locked) return protection;
    return this.#options.now() - this.#heardAt > this.#options.lockLastsMs ? lapsed : protection;
  }

  news(id: string, timeoutMs: number): Promise<"news" | "timeout" | "full"> {
    const waiting = this.#waiting.get(id) ?? new Set();
    if (waiting.size >= maxWaiting) return Promise.resolve("full");
    return new Promise((resolve) => {
      const settle = (outcome: "news" | "timeout") => {
        clearTimeout(timer);
        waiting.delete(wake);
        if (waiting.size === 0 && this.#waiting.get(id) === waiting) this.#waiting.delete(id);
        resolve(outcome);
      };
      const wake = () => settle("news");
      const timer = setTimeout(settle, timeoutMs, "timeout");
      this.#waiting.set(id, waiting.add(wake));
    });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#ticks);
    this.#socket?.destroy();
    this.#wake?.();
    await this.#run;
  }

  async #refresh(): Promise<void> {
    const { now } = this.#options;
    await sleep(Math.min(refreshEveryMs, this.#refreshedAt + refreshEveryMs - now()));
    if (this.#isClosed) return;
    this.#refreshedAt = now();
    const { promise } = this.#snapshot;
    // A connection that is still being made brings the state anyway.
    if (this.#incompleteSince === undefined) {
      this.#isRefreshing = true;
      this.#socket?.destroy();
    } else this.#wake?.();
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([promise, new Promise((resolve) => (timer = setTimeout(resolve, refreshMs)))]);
    clearTimeout(timer);
  }

  async #stayConnected(): Promise<void> {
    let failures = 0;
    while (!this.#isClosed) {
      try {
        await this.#follow();
      } catch (error) {
        if (this.#isClosed) return;
        if (this.#incompleteSince === undefined) {
          failures = 0;
          this.#incompleteSince = this.#options.now();
        }
        // At once, and once: `#follow` has to bring a state before the next refresh can close its connection.
        if (this.#isRefreshing) continue;
        this.#disconnected(error);
        await this.#pause(Math.min(retryMs.longest, retryMs.first * 2 ** Math.min(failures, 10)));
        failures += 1;
      }
    }
  }

  /** One connection. Never resolves; rejects when the connection ends. */
  async #follow(): Promise<never> {
    const isSameGuard = this.#isRefreshing;
    this.#isRefreshing = false;
    const { greetingMs, stateMs, silenceMs } = this.#times;
    const socket = connect(this.#options.path);
    this.#socket = socket;
    const limit = (ms: number, what: string) =>
      setTimeout(() => socket.destroy(new Error(`it has sent ${what} within ${ms / 1_000} s`)), ms);
    let deadline = limit(greetingMs, "no greeting");
    socket.setTimeout(silenceMs, () =>
      socket.destroy(new Error(`it has sent nothing for ${silenceMs / 1_000} s`)),
    );
    /** Named since the connection began, by owner. */
    const named = new Map<string, Set<string>>();
    let isGreeted = false;
    try {
      for await (const line of lines(socket, maxMessageBytes)) {
        this.#noteRunning();
        // A chunk may hold more lines than the one at which the connection was given up.
        if (socket.destroyed) throw socket.errored ?? new Error("the connection was closed");
        const message = decode(line);
        if (isGreeted === (message.type === "hello"))
          throw new Error(isGreeted ? "it has greeted twice" : "its first message is no greeting");
        if (!isGreeted) {
          isGreeted = true;
          clearTimeout(deadline);
          deadline = limit(stateMs, "no complete state");
          // Another guard may have made the lock anew, without containers that it does not know yet.
          if (!isSameGuard) {
            for (const id of this.#protections.keys()) this.#protections.set(id, notNamedYet);
            this.#state = { ...this.#state, host: undefined };
          }
        }
        if (message.type === "snapshot-end") clearTimeout(deadline);
        this.#heardAt = this.#options.now();
        this.#apply(message, named);
      }
      throw socket.errored ?? new Error("it ended the connection");
    } finally {
      clearTimeout(deadline);
      socket.destroy();
    }
  }

  #apply(message: GuardMessage, named: Map<string, Set<string>>): void {
    switch (message.type) {
      case "hello":
        this.#state = { ...this.#state, version: message.version };
        return;
      case "host":
        this.#state = { ...this.#state, host: message.host };
        return;
      case "heartbeat":
        return;
      case "engines":
        this.#state = { ...this.#state, engines: message.engines };
        // The state that follows tells which of its containers have gone.
        if (message.engines.some(({ host, connected }) => connected && this.#unconfirmed.delete(host)))
          void this.refresh();
        return;
      case "container": {
        const container = containerOf(message.container);
        const ids = named.get(message.owner) ?? new Set();
        named.set(message.owner, ids.add(container.id));
        this.#owners.add(message.owner);
        this.#protections.set(container.id, message.protection);
        this.#upsert(message.owner, container);
        this.#tell(container.id);
        return;
      }
      case "gone":
        named.get(message.owner)?.delete(message.id);
        this.#remove(message.owner, message.id);
        return;
      case "snapshot-end":
        this.#finishState(named);
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
    this.#tell(id);
    if (container !== undefined) onChange({ kind: "gone", container });
  }

  #tell(id: string): void {
    for (const wake of [...(this.#waiting.get(id) ?? [])]) wake();
  }

  /**
   * Removes what was not named, also of engines that are no longer in the configuration. A guard that has
   * just started may not have reached an engine yet: its containers stay, without a lock.
   */
  #finishState(named: ReadonlyMap<string, ReadonlySet<string>>): void {
    const { directory, log, path, wallNow } = this.#options;
    const away = new Set(this.#state.engines.flatMap(({ host, connected }) => (connected ? [] : [host])));
    this.#unconfirmed.clear();
    for (const owner of this.#owners) {
      const ids = named.get(owner);
      const unnamed = [...directory.owned(owner).keys()].filter((id) => ids?.has(id) !== true);
      if (away.has(owner) && unnamed.length > 0) this.#unconfirmed.add(owner);
      for (const id of unnamed) {
        if (away.has(owner)) this.#protections.set(id, notNamedYet);
        else this.#remove(owner, id);
      }
    }
    if (!this.#state.connected) {
      log.info({ path, version: this.#state.version }, "following the guard");
      this.#state = { ...this.#state, connected: true, since: wallNow(), lastError: undefined };
    }
    this.#incompleteSince = undefined;
    this.#settled.resolve();
    this.#snapshot.resolve();
    this.#snapshot = Promise.withResolvers();
  }

  /**
   * After a standstill (SIGSTOP, a suspended machine), heartbeats that are read now may have been sent long
   * ago by a guard that is dead. They must not extend the trust in its lock, so the connection is made anew.
   */
  #noteRunning(): void {
    const now = this.#options.now();
    const standstill = now - this.#ranAt;
    this.#ranAt = now;
    if (standstill <= standstillMs) return;
    const seconds = Math.round(standstill / 1_000);
    this.#socket?.destroy(new Error(`this process did not run for ${seconds} s, so the messages may be old`));
  }

  #disconnected(error: unknown): void {
    const { log, path, wallNow } = this.#options;
    const lastError = explain(error);
    const { connected, since, lastError: before } = this.#state;
    this.#state = { ...this.#state, connected: false, since: connected ? wallNow() : since, lastError };
    // A warning for each new error, not for each attempt.
    log[connected || lastError !== before ? "warn" : "debug"](
      { code: "guard-lost", path, error: lastError },
      "cannot follow the guard; known containers are served, new ones get 503",
    );
  }

  /** Ends early when the state is requested. */
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
}

function sleep(ms: number): Promise<void> {
  return ms <= 0 ? Promise.resolve() : new Promise((resolve) => setTimeout(resolve, ms));
}
