import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import type { Directory } from "../containers/directory.ts";
import { explain } from "../errors.ts";
import type { Log } from "../log.ts";
import { connectEngine, type Engine, isTestedApi, type TlsFiles } from "./client.ts";
import { parseDockerHost } from "./endpoint.ts";
import type { Inspected } from "./inspect.ts";
import { Session } from "./session.ts";
import type { Change } from "./sync.ts";

export type { Change } from "./sync.ts";

export type EngineState = {
  readonly host: string;
  readonly connected: boolean;
  /** Milliseconds since the epoch, by the wall clock of that moment: when `connected` changed last. */
  readonly since: number;
  /** Why it is not connected, or what failed since it was; undefined while all is well. */
  readonly lastError: string | undefined;
  readonly apiVersion: string | undefined;
  /** As the engine names itself: `Docker 20.10.24`. */
  readonly engine: string | undefined;
  /** In the directory from this engine; they stay there while it is not connected. */
  readonly containers: number;
};

export type WatchTimes = {
  readonly callTimeoutMs: number;
  /** How often the directory is compared with the engine's list, in case the event stream is dead and does not say so. */
  readonly compareEveryMs: number;
  readonly retryMs: {
    readonly first: number;
    readonly longest: number;
    readonly longestWhileItAnswers: number;
  };
  /** The least time from one refresh to the next. */
  readonly refreshEveryMs: number;
  /** How long a refresh keeps those who wait for it: a client does. The work goes on. */
  readonly refreshMs: number;
};

export type WatchOptions = {
  /** As `parseDockerHost` takes it. */
  readonly host: string;
  readonly tls?: TlsFiles;
  readonly directory: Directory;
  readonly log: Log;
  readonly onChange?: (change: Change) => void;
  /** Told when `connected`, `lastError` or the engine's version change. */
  readonly onState?: (state: EngineState) => void;
  readonly random: () => number;
  /** For durations, in milliseconds; never goes back and never jumps. */
  readonly now: () => number;
  /** What this host takes for the time, milliseconds since the epoch; may be set at any time. The engine is asked by it. */
  readonly wallNow: () => number;
  readonly procRoot?: string;
  readonly times?: Partial<WatchTimes>;
};

export type EngineWatch = {
  state(): EngineState;
  /** Settled when the first list is in the directory, or the engine was found absent or silent: the service may say READY. */
  readonly settled: Promise<void>;
  /**
   * Compares with the engine now, for a caller that nobody knows; shared among those who ask at once. Settles when that is done, or after
   * `refreshMs`; never rejects.
   */
  refresh(): Promise<void>;
  /** Ends the connection. The containers stay in the directory. */
  stop(): Promise<void>;
};

const defaultTimes: WatchTimes = {
  callTimeoutMs: 5_000,
  compareEveryMs: 30_000,
  retryMs: { first: 200, longest: 10_000, longestWhileItAnswers: 1_000 },
  refreshEveryMs: 250,
  refreshMs: 2_000,
};
type OwnState = Omit<EngineState, "containers" | "host">;

/** A connection that lasted so long is no part of a series of failures. */
const steadyMs = 30_000;

/**
 * Keeps the directory true to one engine until stopped: connects, subscribes to the events, lists, follows; after a failure waits and
 * starts again. An engine that is not there yet is waited for. What is known stays in the directory meanwhile: provenance
 * finds out the containers that died in the gap.
 * @throws OperatorError where `host` is no engine's address.
 */
export function watchEngine(options: WatchOptions): EngineWatch {
  return new Watch(options);
}

class Watch {
  readonly #options: WatchOptions;
  readonly #times: WatchTimes;
  readonly #now: () => number;
  readonly #wallNow: () => number;
  readonly #connect: () => Promise<Engine>;
  /** Outlives a connection: a container that starts again has the same labels and variables. */
  readonly #known = new Map<string, Inspected>();
  readonly #stopping = new AbortController();
  readonly #settled = Promise.withResolvers<void>();
  readonly #run: Promise<void>;
  /** The session there is, listed or not. */
  #opened: Session | undefined;
  /** The same once its list is in the directory. */
  #session: Session | undefined;
  /** Ends the wait for the next attempt. */
  #hurry = new AbortController();
  #attempt = Promise.withResolvers<void>();
  #refreshing: Promise<void> | undefined;
  #refreshedAt = Number.NEGATIVE_INFINITY;
  #state: OwnState;

  constructor(options: WatchOptions) {
    this.#options = options;
    this.#times = { ...defaultTimes, ...options.times };
    this.#now = options.now;
    this.#wallNow = options.wallNow;
    this.#state = {
      connected: false,
      since: this.#wallNow(),
      lastError: undefined,
      apiVersion: undefined,
      engine: undefined,
    };
    const tls = options.tls ?? {};
    const endpoint = parseDockerHost(options.host, Object.values(tls).length > 0);
    const { callTimeoutMs } = this.#times;
    this.#connect = () => connectEngine({ endpoint, tls, callTimeoutMs });
    this.#run = this.#keepConnected();
  }

  get settled(): Promise<void> {
    return this.#settled.promise;
  }

  state(): EngineState {
    const { host, directory } = this.#options;
    return { host, ...this.#state, containers: directory.owned(host).size };
  }

  refresh(): Promise<void> {
    this.#refreshing ??= this.#atMost(this.#times.refreshMs, this.#refresh()).finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#hurry.abort();
    this.#opened?.close();
    await this.#run;
  }

  async #refresh(): Promise<void> {
    const { refreshEveryMs } = this.#times;
    await this.#pause(Math.min(refreshEveryMs, this.#refreshedAt + refreshEveryMs - this.#now()));
    this.#refreshedAt = this.#now();
    if (this.#session !== undefined) return this.#session.compare();
    const attempt = this.#attempt.promise;
    this.#hurry.abort();
    return attempt;
  }

  async #keepConnected(): Promise<void> {
    const { first, longest, longestWhileItAnswers } = this.#times.retryMs;
    let failures = 0;
    while (!this.#stopping.signal.aborted) {
      const answeredAt = await this.#connectOnce();
      const wasSteady = answeredAt !== undefined && this.#now() - answeredAt > steadyMs;
      failures = wasSteady ? 0 : failures + 1;
      // An engine that answers and then drops us is asked again sooner: what starts meanwhile is not known.
      const limit = answeredAt === undefined ? longest : longestWhileItAnswers;
      const delay = Math.min(limit, first * 2 ** Math.min(failures, 10));
      this.#hurry = new AbortController();
      await this.#pause(delay * (0.5 + this.#options.random() / 2), this.#hurry.signal);
    }
    this.#tellAttempt();
  }

  /** One connection from its beginning to its end. Returns when the engine had given its list; undefined where it never did. */
  async #connectOnce(): Promise<number | undefined> {
    let answeredAt: number | undefined;
    try {
      const engine = await this.#connect();
      const session = this.#open(engine);
      this.#opened = session;
      if (this.#stopping.signal.aborted) return undefined;
      await session.begin();
      answeredAt = this.#now();
      this.#session = session;
      this.#connected(engine);
      await session.ended;
    } catch (error) {
      if (!this.#stopping.signal.aborted) this.#disconnected(error);
    } finally {
      this.#session = undefined;
      this.#opened?.close();
      this.#opened = undefined;
      this.#tellAttempt();
    }
    return answeredAt;
  }

  #open(engine: Engine): Session {
    const { directory, host, log, onChange, procRoot } = this.#options;
    return new Session({
      owner: host,
      engine,
      directory,
      known: this.#known,
      log,
      onChange: (change) => onChange?.(change),
      onTrouble: (lastError) => this.#set({ lastError }),
      procRoot: procRoot ?? "/proc",
      now: this.#now,
      wallNow: this.#wallNow,
      compareEveryMs: this.#times.compareEveryMs,
    });
  }

  #connected(engine: Engine): void {
    const { log, host } = this.#options;
    const { apiVersion, name } = engine;
    this.#set({ connected: true, since: this.#wallNow(), lastError: undefined, apiVersion, engine: name });
    log.info({ host, engine: name, apiVersion, containers: this.state().containers }, "following the engine");
    if (!isTestedApi(apiVersion))
      log.warn({ host, apiVersion }, "the engine's API version is outside the tested range");
    this.#tellAttempt();
  }

  #disconnected(error: unknown): void {
    const { log, host } = this.#options;
    const lastError = explain(error);
    const { connected, lastError: before } = this.#state;
    this.#set({ connected: false, lastError, since: connected ? this.#wallNow() : this.#state.since });
    const fields = { host, error: lastError, containers: this.state().containers };
    // Once for each way of failing, not for each attempt.
    const isNews = connected || lastError !== before;
    log[isNews ? "warn" : "debug"](
      fields,
      "the engine cannot be followed; what is known of it stays in force",
    );
  }

  #set(changed: Partial<OwnState>): void {
    const before = this.#state;
    this.#state = { ...before, ...changed };
    if (!isDeepStrictEqual(before, this.#state)) this.#options.onState?.(this.state());
  }

  #tellAttempt(): void {
    this.#settled.resolve();
    this.#attempt.resolve();
    this.#attempt = Promise.withResolvers();
  }

  /** Settles with the work, or when its time is over. */
  async #atMost(ms: number, work: Promise<void>): Promise<void> {
    const done = new AbortController();
    const late = sleep(ms, undefined, { signal: done.signal }).catch(() => {
      // The work was faster.
    });
    await Promise.race([work, late]);
    done.abort();
  }

  async #pause(ms: number, signal: AbortSignal = this.#stopping.signal): Promise<void> {
    if (ms <= 0) return;
    await sleep(ms, undefined, { signal }).catch(() => {
      // Somebody asks, or we stop: no more waiting.
    });
  }
}
