import { setTimeout as sleep } from "node:timers/promises";
import { LRUCache } from "lru-cache";
import type { Directory } from "../containers/directory.ts";
import { explain } from "../errors.ts";
import type { Log } from "../log.ts";
import { singleFlight } from "../single-flight.ts";
import { isTestedApi } from "./api-version.ts";
import { connectEngine, type Engine, type TlsFiles } from "./client.ts";
import { parseDockerHost } from "./endpoint.ts";
import { readEvent } from "./events.ts";
import type { Inspected } from "./inspect.ts";
import { type Attempt, failuresAfter, type RetryTimes, retryDelayMs } from "./retry.ts";
import { type Change, Sync } from "./sync.ts";

export type { Change } from "./sync.ts";

export type EngineState = {
  readonly host: string;
  readonly connected: boolean;
  /** When `connected` last changed, by the wall clock of that moment: milliseconds since the epoch. */
  readonly since: number;
  /** Why it is not connected, or what has failed since it was connected. Undefined if all is well. */
  readonly lastError: string | undefined;
  readonly apiVersion: string | undefined;
  /** The engine's own name and version: `Docker 20.10.24`. */
  readonly engine: string | undefined;
  /** In the directory from this engine. They stay there while it is not connected. */
  readonly containers: number;
};

type OwnState = Omit<EngineState, "containers" | "host">;

type ConnectionTimes = {
  readonly callTimeoutMs: number;
  /** How often to compare with the engine's list, in case the event stream is dead without an error. */
  readonly compareEveryMs: number;
  readonly retryMs: RetryTimes;
  /** The minimum time between two refreshes. */
  readonly refreshEveryMs: number;
  /** How long callers wait for a refresh, since a client waits with them. The refresh itself goes on. */
  readonly refreshTimeoutMs: number;
};

export type ConnectionOptions = {
  /** As `parseDockerHost` takes it. */
  readonly host: string;
  readonly tls?: TlsFiles;
  readonly directory: Directory;
  readonly log: Log;
  readonly onChange?: (change: Change) => void;
  /** As in sync.ts. */
  readonly onBridges?: (names: readonly string[]) => void;
  /** `state()` has changed, except for the number of containers. */
  readonly onState?: () => void;
  readonly random: () => number;
  /** A monotonic clock in milliseconds. */
  readonly now: () => number;
  /** The wall clock, milliseconds since the epoch. It may be set at any time. Events are requested by it. */
  readonly wallNow: () => number;
  readonly procRoot?: string;
  readonly times?: Partial<ConnectionTimes>;
};

export type EngineConnection = {
  state(): EngineState;
  /** Resolves when the first attempt has listed or failed. Then the service may report READY. */
  readonly settled: Promise<void>;
  /**
   * Compares the directory with the engine now, for a caller that is unknown. Concurrent calls share one
   * comparison. Resolves when it is done, or after `refreshTimeoutMs`. Never rejects.
   */
  refresh(): Promise<void>;
  /** Closes the connection. The containers stay in the directory. */
  stop(): Promise<void>;
};

const defaultTimes: ConnectionTimes = {
  callTimeoutMs: 5_000,
  compareEveryMs: 30_000,
  retryMs: { first: 200, max: 10_000, maxAfterAnswer: 1_000 },
  refreshEveryMs: 250,
  refreshTimeoutMs: 2_000,
};
/** After the engine refused a query (a 500), the next comparison comes sooner than `compareEveryMs`. */
const compareAfterRefusalMs = 2_000;
/** More than the drift between the clocks: NTP slews both alike. */
const clockStepMs = 1_000;
const maxInspected = 2_000;

/**
 * Keeps the directory in step with one engine until stopped: dials, subscribes to events, lists, follows the
 * events; after a failure it waits and dials again. Also waits for an engine that is not running yet.
 * Meanwhile the known containers stay in the directory: the provenance check detects those that died in the
 * gap.
 * @throws OperatorError if `host` is not the address of an engine.
 */
export function followEngine(options: ConnectionOptions): EngineConnection {
  return new Connection(options);
}

class Connection implements EngineConnection {
  readonly refresh = singleFlight(() => this.#atMost(this.#times.refreshTimeoutMs, this.#refresh()));
  readonly #options: ConnectionOptions;
  readonly #times: ConnectionTimes;
  readonly #dial: () => Promise<Engine>;
  readonly #mayBeRemote: boolean;
  /** Inspect answers by id, kept across connections: labels and variables survive a restart. */
  readonly #inspected = new LRUCache<string, Inspected>({ max: maxInspected });
  readonly #stopping = new AbortController();
  readonly #settled = Promise.withResolvers<void>();
  readonly #finished: Promise<void>;
  /** The live connection, from the moment that its list is in the directory. */
  #live: { readonly sync: Sync; readonly fail: (error: unknown) => void } | undefined;
  /** Ends the wait for the next attempt. */
  #retryNow = new AbortController();
  /** Resolves when the attempt that is in progress, or the next one, has connected or failed. */
  #attempt = Promise.withResolvers<void>();
  #refreshedAt = Number.NEGATIVE_INFINITY;
  /** The query that the engine refused on this connection, which may have been one of the first. */
  #refusal: string | undefined;
  #state: OwnState;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#times = { ...defaultTimes, ...options.times };
    this.#state = {
      connected: false,
      since: options.wallNow(),
      lastError: undefined,
      apiVersion: undefined,
      engine: undefined,
    };
    const tls = options.tls ?? {};
    const endpoint = parseDockerHost(options.host, Object.values(tls).length > 0);
    const { callTimeoutMs } = this.#times;
    this.#mayBeRemote = endpoint.kind === "tcp";
    this.#dial = () => connectEngine({ endpoint, tls, callTimeoutMs });
    this.#finished = this.#keepConnected();
  }

  get settled(): Promise<void> {
    return this.#settled.promise;
  }

  state(): EngineState {
    const { host, directory } = this.#options;
    return { host, ...this.#state, containers: directory.owned(host).size };
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#retryNow.abort();
    await this.#finished;
  }

  async #keepConnected(): Promise<void> {
    const { random } = this.#options;
    let failures = 0;
    while (!this.#stopping.signal.aborted) {
      const attempt = await this.#connectOnce();
      if (this.#stopping.signal.aborted) break;
      failures = failuresAfter(attempt, failures);
      this.#retryNow = new AbortController();
      const delay = retryDelayMs(attempt, failures, this.#times.retryMs, random());
      await this.#pause(delay, this.#retryNow.signal);
    }
    this.#attemptEnded();
  }

  /** One connection, from dial to failure. Never rejects. */
  async #connectOnce(): Promise<Attempt> {
    const { now, wallNow } = this.#options;
    const failure = Promise.withResolvers<never>();
    // Nobody may be waiting when it rejects; the next race sees it.
    failure.promise.catch(() => {});
    let listedAt: number | undefined;
    try {
      using open = new DisposableStack();
      const engine = await this.#dial();
      open.defer(() => engine.close());
      if (this.#stopping.signal.aborted) return { lastedMs: undefined };
      const stopped = () => failure.reject(new Error("stopped"));
      this.#stopping.signal.addEventListener("abort", stopped, { once: true });
      open.defer(() => this.#stopping.signal.removeEventListener("abort", stopped));
      const sync = this.#openSync(engine, failure.reject);
      open.defer(() => sync.stop());

      // Subscribes before listing, and from 2 s ago, so that no event falls between the two.
      const clockOffset = wallNow() - now();
      const subscribed = engine.events(Math.floor(wallNow() / 1000) - 2);
      const events = await Promise.race([subscribed, failure.promise]);
      this.#follow(events, sync).catch(failure.reject);
      await Promise.race([sync.compare(), failure.promise]);
      listedAt = now();
      this.#live = { sync, fail: failure.reject };
      this.#connected(engine);

      const { compareEveryMs } = this.#times;
      const check = () => void this.#compareWhenDue(sync, clockOffset).catch(failure.reject);
      const timer = setInterval(check, Math.min(compareAfterRefusalMs, compareEveryMs));
      open.defer(() => clearInterval(timer));
      await failure.promise;
    } catch (error) {
      if (!this.#stopping.signal.aborted) this.#disconnected(error);
    } finally {
      this.#live = undefined;
      this.#attemptEnded();
    }
    return { lastedMs: listedAt === undefined ? undefined : now() - listedAt };
  }

  #openSync(engine: Engine, onLost: (error: unknown) => void): Sync {
    const { directory, host, log, onChange, onBridges, procRoot, now } = this.#options;
    this.#refusal = undefined;
    return new Sync({
      owner: host,
      engine,
      directory,
      inspected: this.#inspected,
      log,
      onChange: (change) => onChange?.(change),
      onLost,
      ...(onBridges !== undefined && { onBridges }),
      onRefusal: (lastError) => {
        this.#refusal = lastError;
        this.#set({ lastError });
      },
      procRoot: procRoot ?? "/proc",
      mayBeRemote: this.#mayBeRemote,
      now,
    });
  }

  /** Applies events while the stream lasts; rejects when it ends. */
  async #follow(events: AsyncGenerator<string>, sync: Sync): Promise<never> {
    try {
      for await (const line of events) {
        const event = readEvent(line);
        if (event !== undefined) sync.handle(event);
      }
    } catch (cause) {
      throw new Error("following the engine's events", { cause });
    }
    throw new Error("following the engine's events: the engine closed the stream");
  }

  /** Rejects if the event stream can no longer be trusted. */
  async #compareWhenDue(sync: Sync, clockOffset: number): Promise<void> {
    const { now, wallNow } = this.#options;
    // Podman drops events that are older than the requested time. After the clock was set back, that would be
    // every event until the clock is there again.
    if (wallNow() - now() < clockOffset - clockStepMs)
      throw new Error("following the engine's events: the clock was set back");
    if (!sync.isDue(this.#times.compareEveryMs)) return;
    const missed = await sync.compare();
    if (missed > 0)
      throw new Error(`following the engine's events: ${missed} containers came or went without an event`);
  }

  async #refresh(): Promise<void> {
    const { refreshEveryMs } = this.#times;
    const { now } = this.#options;
    await this.#pause(Math.min(refreshEveryMs, this.#refreshedAt + refreshEveryMs - now()));
    this.#refreshedAt = now();
    const live = this.#live;
    if (live !== undefined) {
      await live.sync.compare().catch(live.fail);
      return;
    }
    const attempt = this.#attempt.promise;
    this.#retryNow.abort();
    await attempt;
  }

  #connected(engine: Engine): void {
    const { log, host, wallNow } = this.#options;
    const { apiVersion, name } = engine;
    this.#set({ connected: true, since: wallNow(), lastError: this.#refusal, apiVersion, engine: name });
    log.info({ host, engine: name, apiVersion, containers: this.state().containers }, "following the engine");
    if (!isTestedApi(apiVersion))
      log.warn(
        { code: "engine-untested", host, apiVersion },
        "the engine's API version is outside the tested range",
      );
    this.#attemptEnded();
  }

  #disconnected(error: unknown): void {
    const { log, host, wallNow } = this.#options;
    const lastError = explain(error);
    const { connected, since, lastError: before } = this.#state;
    this.#set({ connected: false, lastError, since: connected ? wallNow() : since });
    const fields = {
      code: "engine-lost" as const,
      host,
      error: lastError,
      containers: this.state().containers,
    };
    // A warning for each new error, not for each attempt.
    const isNew = connected || lastError !== before;
    log[isNew ? "warn" : "debug"](fields, "cannot follow the engine; its known containers stay in force");
  }

  #set(changed: Partial<OwnState>): void {
    this.#state = { ...this.#state, ...changed };
    this.#options.onState?.();
  }

  #attemptEnded(): void {
    this.#settled.resolve();
    this.#attempt.resolve();
    this.#attempt = Promise.withResolvers();
  }

  /** Resolves with the work, or after `ms`. */
  async #atMost(ms: number, work: Promise<void>): Promise<void> {
    const done = new AbortController();
    const timeout = sleep(ms, undefined, { signal: done.signal }).catch(() => {
      // The work was faster.
    });
    await Promise.race([work, timeout]);
    done.abort();
  }

  async #pause(ms: number, signal: AbortSignal = this.#stopping.signal): Promise<void> {
    if (ms <= 0) return;
    await sleep(ms, undefined, { signal }).catch(() => {
      // Aborted: stop waiting.
    });
  }
}
