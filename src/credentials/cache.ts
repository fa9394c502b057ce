import type { Log, LogFields } from "../log.ts";
import type { RoleRequest } from "../roles/grant.ts";
import { type CacheAnswer, credentialsAnswer, refusedAnswer, unavailableAnswer } from "./answer.ts";
import { type AssumeRole, AssumeRoleError, type FailureKind } from "./assume-role.ts";
import type { Credentials } from "./document.ts";
import { type HeldCredentials, heldCredentials, type Issued } from "./held.ts";
import { CallRate } from "./rate.ts";
import { type Job, type Schedule, Scheduler, type SchedulerLimits } from "./scheduler.ts";
import type { CacheStats, StsFailure } from "./stats.ts";
import { neededAge, refusalMs, renewalAge, retryMs } from "./timing.ts";
import { mustBeUsable } from "./usable.ts";

export type { CacheAnswer } from "./answer.ts";
export type { CacheStats } from "./stats.ts";

export type CacheOptions = {
  readonly assumeRole: AssumeRole;
  /** For durations, milliseconds; monotonic, see clock.ts. */
  readonly now: () => number;
  /** For the times in answers to clients: milliseconds since the epoch. */
  readonly wallNow: () => number;
  readonly random: () => number;
  readonly schedule: Schedule;
  readonly log: Log;
  readonly limits?: Partial<CacheLimits>;
  /** Called at the end of each call to STS. */
  readonly called?: ((durationMs: number, outcome: "ok" | FailureKind) => void) | undefined;
};

export type CacheLimits = SchedulerLimits & {
  /** Of this host; the quota of 600 calls a second is the account's, per region. */
  readonly callsPerSecond: number;
  /**
   * A call that takes longer is cancelled and counts as failed, even if the STS client ignores the signal.
   */
  readonly callMs: number;
  /**
   * How long a client waits. Go v2 gives up after 500 ms and asks again; the other SDKs give up after 1 s,
   * most of them for good.
   */
  readonly waitMs: number;
  /**
   * For this long after the start, credentials that no client waits for are fetched at a random time. Meant
   * for fleets; see docs/credentials.md.
   */
  readonly startSpreadMs: number;
};

const defaultLimits: CacheLimits = {
  callsInFlight: 64,
  callsPerSecond: 120,
  stalledAfterMs: 2_000,
  stalledCalls: 192,
  callMs: 10_000,
  waitMs: 900,
  startSpreadMs: 0,
};

/**
 * The state of one key. Containers share an entry if their requests are equal in every input of AssumeRole.
 */
type Entry = {
  /** keyOf(request). */
  readonly key: string;
  /** The input of AssumeRole. */
  readonly request: RoleRequest;
  /** Ids of the containers that may have the credentials. The entry is dropped with the last one. */
  readonly holders: Set<string>;
  /** Resolve functions of the clients that wait. */
  readonly waiters: Set<(answer: CacheAnswer) => void>;
  /** The call to STS as the scheduler sees it: the first call, its retries and the renewals. */
  readonly job: Job;
  /** Aborts the call in flight; undefined if there is none. */
  call: AbortController | undefined;
  /** Credentials or a refusal. Stays the same object until a call replaces it. */
  answer: CacheAnswer | undefined;
  /** `answer` is served until then, by `now`. */
  answerUntil: number;
  /** Cancels the timer that queues the next renewal. */
  cancelRenewal: (() => void) | undefined;
  /** Successful calls: the first renewal is timed differently from the rest. */
  successes: number;
  /** Throttled and temporary failures since the last success or refusal; retry pauses grow with it. */
  failures: number;
  /** Refusals since the last success; the time that a refusal is remembered grows with it. */
  refusals: number;
  /** Why the last call failed; undefined if it succeeded. */
  lastError: AssumeRoleError | undefined;
  lastErrorAt: number;
  /** From when on there should be credentials. */
  readonly wantedSince: number;
  /** Of the last credentials, which may have expired. */
  issued: Issued | undefined;
  /**
   * The state that was logged last. One line is written per change of state and never one per call, so that
   * the log still shows when a problem began.
   */
  logged: "new" | "ok" | "failing" | `refused ${string}`;
};

/**
 * The credentials of every container on this host: fetched early, renewed in time, and in an outage served
 * until they expire.
 *
 * The file follows one key from top to bottom:
 *
 * 1. A container asks (`get`) or starts (`prefetch`). A cached answer is returned at once; without one, the
 *    client waits.
 * 2. The scheduler starts the call to STS (`#call`). Concurrent requests for the key share it.
 * 3. Its result (`#ended`) is served to all clients (`#fetched`, `#refused`), or the call is repeated later
 *    (`#failed`). `#fetched` also sets the timer for the renewal: step 2 again, while the old credentials are
 *    served.
 * 4. The last container that holds the key goes (`release`), and the entry with it.
 */
export class CredentialCache {
  readonly #options: CacheOptions;
  readonly #limits: CacheLimits;
  /**
   * By key. Nothing outside this class changes an entry, except that the scheduler sets two times in its job.
   */
  readonly #entries = new Map<string, Entry>();
  /** The one key that each container holds, by container id. */
  readonly #keys = new Map<string, string>();
  /** Limits the rate of all calls together, and detects that STS is down. */
  readonly #rate: CallRate;
  /** Decides which call starts next, and how many run at once. */
  readonly #scheduler: Scheduler;
  /** When the cache was made: `startSpreadMs` counts from then. */
  readonly #startedAt: number;
  /** Renewals per second in normal operation, over all entries. */
  #renewalRate = 0;
  /** Requests since the start that found another client waiting for the same call. */
  #joined = 0;
  /** Calls to STS since the start, by result. */
  readonly #calls = { ok: 0, refused: 0, throttled: 0, temporary: 0 };
  /** The calls without an answer since the last one with credentials or a refusal. */
  #failure: (Omit<StsFailure, "forMs"> & { readonly since: number }) | undefined;
  /** Duration of the last call that has ended. */
  #lastCallMs: number | undefined;
  /** Total duration of all calls since the start. */
  #spentMs = 0;

  constructor(options: CacheOptions) {
    this.#options = options;
    const limits = { ...defaultLimits, ...options.limits };
    this.#limits = limits;
    this.#rate = new CallRate({ ...options, callsPerSecond: limits.callsPerSecond });
    this.#scheduler = new Scheduler({ ...options, limits, rate: this.#rate });
    this.#startedAt = options.now();
  }

  /**
   * The hot path: synchronous if there is an answer. Otherwise a promise that resolves within `waitMs` and
   * never rejects. The call to STS continues when the client has given up, and its answer serves the next
   * request.
   * `holder`: the container's id. `key`: keyOf(request), computed once and kept by the caller.
   */
  get(
    holder: string,
    key: string,
    request: RoleRequest,
    waitMs: number = this.#limits.waitMs,
  ): CacheAnswer | Promise<CacheAnswer> {
    const entry = this.#entries.get(key);
    if (entry?.answer !== undefined && this.#options.now() < entry.answerUntil && entry.holders.has(holder))
      return entry.answer;
    const held = this.#hold(holder, key, request);
    return this.#known(held) ?? this.#wait(held, waitMs);
  }

  /**
   * Fetches credentials that a container will need. It releases those it held before, if its grant has
   * changed.
   */
  prefetch(holder: string, key: string, request: RoleRequest): void {
    const entry = this.#hold(holder, key, request);
    if (this.#known(entry) === undefined) this.#scheduler.add(entry.job);
  }

  /** The answer that can be given now, without waiting. */
  #known(entry: Entry): CacheAnswer | undefined {
    return this.#options.now() < entry.answerUntil ? entry.answer : undefined;
  }

  /** The entry of this key, with the container among its holders. */
  #hold(holder: string, key: string, request: RoleRequest): Entry {
    const former = this.#keys.get(holder);
    if (former !== undefined && former !== key) this.release(holder);
    this.#keys.set(holder, key);
    const entry = this.#entries.get(key) ?? this.#add(key, request);
    entry.holders.add(holder);
    return entry;
  }

  #add(key: string, request: RoleRequest): Entry {
    const { now, random } = this.#options;
    const { startSpreadMs } = this.#limits;
    const at = now();
    const notBefore = at - this.#startedAt < startSpreadMs ? at + random() * startSpreadMs : at;
    const start = () => this.#call(entry);
    const entry: Entry = {
      key,
      request,
      holders: new Set(),
      waiters: new Set(),
      job: { start, waitedFor: false, renewalOf: undefined, notBefore, triedAt: 0, queuedAt: 0 },
      call: undefined,
      answer: undefined,
      answerUntil: 0,
      cancelRenewal: undefined,
      successes: 0,
      failures: 0,
      refusals: 0,
      lastError: undefined,
      lastErrorAt: 0,
      wantedSince: notBefore,
      issued: undefined,
      logged: "new",
    };
    this.#entries.set(key, entry);
    this.#changeRenewalRate(request, 1);
    return entry;
  }

  /** There is no answer, or it has expired: the client waits for the next one. */
  #wait(entry: Entry, waitMs: number): Promise<CacheAnswer> {
    if (entry.answer?.kind === "credentials") this.#logExpired(entry);
    entry.answer = undefined;
    entry.job.renewalOf = undefined;
    if (entry.waiters.size > 0) this.#joined += 1;
    return new Promise((resolve) => {
      const settle = (answer: CacheAnswer) => {
        cancel();
        entry.waiters.delete(settle);
        resolve(answer);
      };
      const cancel = this.#options.schedule(waitMs, () => settle(this.#unavailable(entry)));
      entry.waiters.add(settle);
      this.#wantNow(entry);
    });
  }

  /** A client waits: the call has priority from now on, until it has an answer. */
  #wantNow(entry: Entry): void {
    const { job } = entry;
    // It is queued or in flight already, and stays so until it has an answer.
    if (job.waitedFor) return;
    job.waitedFor = true;
    // No client has waited so far, so the pause may be a long one.
    const soon = entry.failures === 0 ? this.#options.now() : this.#retryAt(entry);
    job.notBefore = Math.min(job.notBefore, soon);
    this.#scheduler.add(job);
  }

  /** Calls STS; started by the scheduler. The call ends once, with its result or at its deadline. */
  #call(entry: Entry): void {
    const { assumeRole, schedule, now } = this.#options;
    const { callMs } = this.#limits;
    const call = new AbortController();
    entry.call = call;
    const startedAt = now();
    let hasEnded = false;
    const end = (result: Credentials | AssumeRoleError) => {
      if (hasEnded) return;
      hasEnded = true;
      cancelDeadline();
      entry.call = undefined;
      const repeat = this.#ended(entry, result, startedAt);
      this.#scheduler.finished(entry.job);
      if (repeat) this.#scheduler.add(entry.job);
    };
    const cancelDeadline = schedule(callMs, () => {
      call.abort();
      end(new AssumeRoleError("temporary", "Timeout", `STS has not answered for ${callMs} ms`));
    });
    assumeRole(entry.request, call.signal)
      .then((credentials) => {
        // Checked whatever the source: expired credentials would be renewed at once, in a loop without a
        // pause.
        mustBeUsable(credentials, entry.request);
        end(credentials);
      })
      .catch((error: unknown) => end(asCallError(error)));
  }

  /** Returns whether to repeat the call, at the job's `notBefore`. */
  #ended(entry: Entry, result: Credentials | AssumeRoleError, startedAt: number): boolean {
    const failed = result instanceof AssumeRoleError;
    this.#calls[failed ? result.kind : "ok"] += 1;
    this.#lastCallMs = this.#options.now() - startedAt;
    this.#options.called?.(this.#lastCallMs, failed ? result.kind : "ok");
    this.#spentMs += this.#lastCallMs;
    if (!failed || result.kind === "refused") this.#failure = undefined;
    if (!failed || result.kind !== "temporary") {
      if (this.#rate.answered()) this.#outageEnded();
    }
    if (failed && result.kind === "throttled") this.#rate.throttled(startedAt);
    // The entry was dropped during the call (a container that came back has a new one): discard the answer.
    if (this.#entries.get(entry.key) !== entry) return false;
    if (!failed) return this.#fetched(entry, result);
    entry.lastError = result;
    entry.lastErrorAt = this.#options.now();
    this.#noteFailure(result, startedAt);
    return result.kind === "refused" ? this.#refused(entry, result) : this.#failed(entry, result, startedAt);
  }

  #fetched(entry: Entry, credentials: Credentials): false {
    const { random, schedule, now } = this.#options;
    const { fetchedAt, lifetimeMs } = credentials;
    this.#logSuccess(entry, credentials);
    entry.failures = 0;
    entry.refusals = 0;
    entry.lastError = undefined;
    entry.issued = { fetchedAt, expiresAt: credentials.expiresAt, validUntil: fetchedAt + lifetimeMs };
    entry.job.waitedFor = false;
    entry.job.renewalOf = {
      neededBy: fetchedAt + neededAge(lifetimeMs),
      expiresAt: fetchedAt + lifetimeMs,
    };
    entry.cancelRenewal?.();
    entry.cancelRenewal = schedule(renewalAge(lifetimeMs, entry.successes, random()), () => {
      entry.job.notBefore = now();
      this.#scheduler.add(entry.job);
    });
    entry.successes += 1;
    settle(entry, credentialsAnswer(credentials, entry.request.roleArn), fetchedAt + lifetimeMs);
    return false;
  }

  /**
   * Credentials that are still valid stay in use. Otherwise the refusal is served for a while. Then STS is
   * called again.
   */
  #refused(entry: Entry, error: AssumeRoleError): true {
    const { now, wallNow, random } = this.#options;
    const valid = this.#hasCredentials(entry);
    entry.failures = 0;
    entry.refusals += 1;
    this.#logRefusal(entry, error, valid);
    const until = now() + refusalMs(entry.refusals, random());
    entry.job.notBefore = until;
    if (valid) return true;
    entry.job.waitedFor = false;
    entry.job.renewalOf = undefined;
    settle(entry, refusedAnswer(error, entry.request.roleArn, wallNow()), until);
    // Also where no client asks: otherwise a role that IAM allows by now would be reported as refused for
    // ever.
    return true;
  }

  /** STS throttled the call, or gave no usable answer. Clients keep waiting for the retry. */
  #failed(entry: Entry, error: AssumeRoleError, startedAt: number): true {
    entry.failures += 1;
    if (error.kind === "temporary") {
      this.#rate.failed(entry.key, startedAt, {
        reason: `${error.code}: ${error.message}`,
        ...error.diagnosis,
      });
      // In an outage, CallRate logs one line for all roles.
      if (this.#rate.state !== "down") this.#logFailure(entry, error);
    }
    entry.job.notBefore = this.#retryAt(entry);
    return true;
  }

  /**
   * Counted from the start of the last call. If that took seconds to fail, it was a pause in itself, and a
   * client must not wait for both.
   */
  #retryAt({ failures, job, lastError }: Entry): number {
    const how = { waitedFor: job.waitedFor, throttled: lastError?.kind === "throttled" };
    return job.triedAt + retryMs(failures, how, this.#options.random());
  }

  /**
   * Calls that clients wait for start now. The others follow when their pauses end, as fast as the scheduler
   * allows.
   */
  #outageEnded(): void {
    const now = this.#options.now();
    for (const { job } of this.#entries.values()) if (job.waitedFor) job.notBefore = now;
  }

  #hasCredentials(entry: Entry): boolean {
    return this.#known(entry)?.kind === "credentials";
  }

  #unavailable(entry: Entry): CacheAnswer {
    const retryAfterMs = Math.max(1_000, Math.min(entry.job.notBefore - this.#options.now(), 5_000));
    return unavailableAnswer(entry.lastError, entry.request.roleArn, this.#options.wallNow(), retryAfterMs);
  }

  /**
   * The container has gone. Drops its credentials, and cancels a call for them, unless another container
   * holds them.
   */
  release(holder: string): void {
    const key = this.#keys.get(holder);
    if (key === undefined) return;
    this.#keys.delete(holder);
    const entry = this.#entries.get(key);
    entry?.holders.delete(holder);
    if (entry?.holders.size === 0) this.#drop(entry);
  }

  #drop(entry: Entry): void {
    this.#entries.delete(entry.key);
    this.#changeRenewalRate(entry.request, -1);
    entry.cancelRenewal?.();
    this.#scheduler.remove(entry.job);
    entry.call?.abort();
    for (const settle of [...entry.waiters]) settle(this.#unavailable(entry));
  }

  /** Cancels all calls. Waiting clients get `unavailable`. */
  close(): void {
    this.#scheduler.close();
    for (const entry of [...this.#entries.values()]) this.#drop(entry);
    this.#keys.clear();
  }

  #changeRenewalRate(request: RoleRequest, sign: 1 | -1): void {
    // Two renewals per session. STS may limit a session to one hour, whatever was requested; assuming at most
    // an hour allows too many renewals rather than too few.
    this.#renewalRate += (sign * 2) / Math.min(request.durationSeconds, 3_600);
    this.#scheduler.setRenewalRate(this.#renewalRate);
  }

  /** What a container holds of this key; undefined if these credentials were not asked for yet. */
  held(holder: string, key: string): HeldCredentials | undefined {
    const entry = this.#keys.get(holder) === key ? this.#entries.get(key) : undefined;
    return entry && heldCredentials(entry, this.#options.now());
  }

  #noteFailure(error: AssumeRoleError, startedAt: number): void {
    const { kind, code, message } = error;
    if (kind === "refused") return;
    const { since = startedAt, calls = 0 } = this.#failure ?? {};
    this.#failure = { since, calls: calls + 1, kind, code, message, ...error.diagnosis };
  }

  /** Undefined where nobody waits for STS any more: then nothing would ever end the failure. */
  #currentFailure(): StsFailure | undefined {
    if (this.#failure === undefined) return undefined;
    const isFailing = [...this.#entries.values()].some(
      ({ lastError }) => lastError !== undefined && lastError.kind !== "refused",
    );
    const { since, ...failure } = this.#failure;
    return isFailing ? { ...failure, forMs: this.#options.now() - since } : undefined;
  }

  stats(): CacheStats {
    const now = this.#options.now();
    const count = { warm: 0, refused: 0, cold: 0, failing: 0, waiting: 0 };
    let firstExpiry = Number.POSITIVE_INFINITY;
    for (const entry of this.#entries.values()) {
      const kind = this.#known(entry)?.kind;
      if (kind === "credentials") firstExpiry = Math.min(firstExpiry, entry.answerUntil);
      count[kind === "credentials" ? "warm" : kind === "refused" ? "refused" : "cold"] += 1;
      if (entry.failures > 0) count.failing += 1;
      count.waiting += entry.waiters.size;
    }
    return {
      state: this.#rate.state,
      failure: this.#currentFailure(),
      callsPerSecond: this.#rate.callsPerSecond,
      entries: this.#entries.size,
      ...count,
      queued: this.#scheduler.queued,
      inFlight: this.#scheduler.inFlight,
      stalled: this.#scheduler.stalled,
      calls: { ...this.#calls },
      joined: this.#joined,
      smallestRemainingMs: Number.isFinite(firstExpiry) ? firstExpiry - now : undefined,
      lastCallMs: this.#lastCallMs,
      spentMs: this.#spentMs,
    };
  }

  #logSuccess(entry: Entry, { accessKeyId, lifetimeMs }: Credentials): void {
    const before = entry.logged;
    entry.logged = "ok";
    const fields = { ...fieldsOf(entry), accessKeyId, lifetimeMs };
    if (before === "ok" || before === "new") this.#options.log.debug(fields, "assumed the role");
    else this.#options.log.info(fields, "assumed the role: it works again");
  }

  #logRefusal(entry: Entry, error: AssumeRoleError, stillValid: boolean): void {
    const state = `refused ${error.code}` as const;
    if (entry.logged === state) return;
    entry.logged = state;
    this.#options.log.warn(
      { code: "role-refused", ...fieldsOf(entry), ...reasonOf(error), stillValid },
      "assuming the role: refused",
    );
  }

  #logFailure(entry: Entry, error: AssumeRoleError): void {
    // A single failure is normal, and the retry follows within a second.
    if (entry.failures < 2 || entry.logged === "failing") return;
    entry.logged = "failing";
    this.#options.log.warn(
      {
        code: "role-failing",
        ...fieldsOf(entry),
        ...reasonOf(error),
        stillValid: this.#hasCredentials(entry),
      },
      "assuming the role failed; retrying",
    );
  }

  #logExpired(entry: Entry): void {
    entry.logged = "failing";
    this.#options.log.error(
      { code: "credentials-expired", ...fieldsOf(entry), ...(entry.lastError && reasonOf(entry.lastError)) },
      "credentials have expired and could not be renewed: containers get 503",
    );
  }
}

/** Answers all waiting clients, and all requests until `until`. */
function settle(entry: Entry, answer: CacheAnswer, until: number): void {
  entry.answer = answer;
  entry.answerUntil = until;
  for (const resolve of [...entry.waiters]) resolve(answer);
}

/**
 * AssumeRole must reject with its own error only. Anything else is a bug, and its message may contain a
 * secret.
 */
function asCallError(error: unknown): AssumeRoleError {
  if (error instanceof AssumeRoleError) return error;
  return new AssumeRoleError("temporary", "InternalError", error instanceof Error ? error.name : "unknown");
}

function reasonOf({ code, message, httpStatus, diagnosis }: AssumeRoleError): LogFields {
  return { stsCode: code, reason: message, ...(httpStatus !== undefined && { httpStatus }), ...diagnosis };
}

function fieldsOf({ request }: Entry): LogFields {
  return { roleArn: request.roleArn, sessionName: request.sessionName };
}
