import type { Log } from "../log.ts";
import type { CacheAnswer } from "./answer.ts";
import { credentialsAnswer, refusedAnswer, unavailableAnswer } from "./answer.ts";
import type { AssumeRole } from "./assume-role.ts";
import { AssumeRoleError } from "./assume-role.ts";
import type { Credentials } from "./document.ts";
import type { Entry } from "./entry.ts";
import { expiryOf, neededAge, refusalMs, renewalAge, retryMs } from "./entry.ts";
import type { CacheLimits } from "./limits.ts";
import { logFailure, logRefusal, logSuccess } from "./log-lines.ts";
import { Pace } from "./rate.ts";
import type { Job, Schedule } from "./scheduler.ts";
import { CallLanes } from "./scheduler.ts";
import { mustBeUsable } from "./usable.ts";

export type CallOptions = {
  readonly assumeRole: AssumeRole;
  /** For durations, in milliseconds; never goes back and never jumps: see clock.ts. */
  readonly now: () => number;
  /** For what clients are told of the time: milliseconds since the epoch. */
  readonly wallNow: () => number;
  readonly random: () => number;
  readonly schedule: Schedule;
  readonly log: Log;
};

/** Calls STS for entries: in turn, again after a failure, and again before the credentials run out. */
export class RoleCalls {
  readonly pace: Pace;
  readonly lanes: CallLanes;
  readonly ended = { ok: 0, refused: 0, throttled: 0, temporary: 0 };
  lastCallMs: number | undefined;
  /** Of all calls together. */
  spentMs = 0;
  readonly #options: CallOptions;
  readonly #limits: CacheLimits;
  /** The entries that somebody still holds. */
  readonly #entries: ReadonlyMap<string, Entry>;

  constructor(options: CallOptions, limits: CacheLimits, entries: ReadonlyMap<string, Entry>) {
    this.#options = options;
    this.#limits = limits;
    this.#entries = entries;
    this.pace = new Pace({ ...options, callsPerSecond: limits.callsPerSecond });
    this.lanes = new CallLanes({ ...options, limits, pace: this.pace, call: (job) => this.#call(job) });
  }

  /** A client waits for it and has nothing. */
  want(entry: Entry): void {
    // It is in the lane or under way already, and stays so until it has an answer.
    if (entry.job.waitedFor) return;
    entry.job.waitedFor = true;
    // Nobody waited so far, so its pause may be a long one.
    const soon = entry.failures === 0 ? this.#options.now() : this.#againAt(entry);
    entry.job.notBefore = Math.min(entry.job.notBefore, soon);
    this.lanes.add(entry.job);
  }

  /** Gives up what is under way for an entry that nobody holds any more. */
  drop(entry: Entry): void {
    entry.cancelRenewal?.();
    this.lanes.remove(entry.job);
    entry.call?.abort();
    for (const settle of [...entry.waiters]) settle(this.unavailable(entry));
  }

  unavailable(entry: Entry): CacheAnswer {
    const now = this.#options.now();
    const retryAfterMs = Math.max(1_000, Math.min(entry.job.notBefore - now, 5_000));
    return unavailableAnswer(entry.lastError, entry.request.roleArn, this.#options.wallNow(), retryAfterMs);
  }

  #call(job: Job): void {
    const entry = this.#entries.get(job.key);
    if (entry === undefined) throw new Error(`calling STS for ${job.key}: nobody holds it`);
    const call = new AbortController();
    entry.call = call;
    const startedAt = this.#options.now();
    let ended = false;
    const end = (result: Credentials | AssumeRoleError) => {
      if (ended) return;
      ended = true;
      cancelDeadline();
      entry.call = undefined;
      this.#count(result, this.#options.now() - startedAt);
      const again = this.#ended(entry, result, startedAt);
      this.lanes.finished(job);
      if (again) this.lanes.add(job);
    };
    const cancelDeadline = this.#options.schedule(this.#limits.callMs, () => {
      call.abort();
      end(new AssumeRoleError("temporary", "Timeout", `STS has not answered for ${this.#limits.callMs} ms`));
    });
    this.#options
      .assumeRole(entry.request, call.signal)
      .then((credentials) => {
        // Once more, whoever gave them: dead credentials would be renewed at once, and again, without a pause.
        mustBeUsable(credentials, entry.request);
        end(credentials);
      })
      .catch((error: unknown) => end(asCallError(error)));
  }

  /** Returns whether the call is to be made again after the job's pause. */
  #ended(entry: Entry, result: Credentials | AssumeRoleError, startedAt: number): boolean {
    const failed = result instanceof AssumeRoleError;
    // The container has gone, or came back and has a new entry: this answer is nobody's.
    const current = this.#entries.get(entry.key) === entry;
    if (!failed || result.kind !== "temporary") {
      if (this.pace.answered()) this.#recovered();
    }
    if (failed && result.kind === "throttled") this.pace.throttled(startedAt);
    if (!current) return false;
    if (!failed) {
      this.#fetched(entry, result);
      return false;
    }
    entry.lastError = result;
    const valid = entry.answer?.kind === "credentials" && this.#options.now() < entry.answerUntil;
    if (result.kind === "refused") return this.#refused(entry, result, valid);
    entry.failures += 1;
    if (result.kind === "temporary") {
      this.pace.failed(entry.key, startedAt, `${result.code}: ${result.message}`);
      // In an outage one line speaks for all.
      if (this.pace.state !== "down") logFailure(this.#options.log, entry, result, valid);
    }
    entry.job.notBefore = this.#againAt(entry);
    return true;
  }

  #fetched(entry: Entry, credentials: Credentials): void {
    const { random, schedule, now, log } = this.#options;
    logSuccess(log, entry, credentials);
    entry.failures = 0;
    entry.refusals = 0;
    entry.lastError = undefined;
    entry.answerUntil = expiryOf(credentials);
    entry.job.waitedFor = false;
    entry.job.renewalOf = {
      neededBy: credentials.fetchedAt + neededAge(credentials.lifetimeMs),
      expiresAt: entry.answerUntil,
    };
    const age = renewalAge(credentials.lifetimeMs, entry.renewals, random());
    entry.renewals += 1;
    entry.cancelRenewal?.();
    entry.cancelRenewal = schedule(age, () => {
      entry.job.notBefore = now();
      this.lanes.add(entry.job);
    });
    answer(entry, credentialsAnswer(credentials, entry.request.roleArn));
  }

  /** Valid credentials go on being served and are renewed later, perhaps; without any, the refusal is the answer for a while. */
  #refused(entry: Entry, error: AssumeRoleError, valid: boolean): boolean {
    const now = this.#options.now();
    entry.failures = 0;
    entry.refusals += 1;
    logRefusal(this.#options.log, entry, error, valid);
    const pauseMs = refusalMs(entry.refusals, this.#options.random());
    entry.job.notBefore = now + pauseMs;
    if (valid) return true;
    entry.job.waitedFor = false;
    entry.job.renewalOf = undefined;
    entry.answerUntil = now + pauseMs;
    answer(entry, refusedAnswer(error, entry.request.roleArn, this.#options.wallNow()));
    return false;
  }

  /** Counted from the last call's start: one that took seconds to fail was a pause itself, and a client that waits must not wait for both. */
  #againAt(entry: Entry): number {
    const throttled = entry.lastError?.kind === "throttled";
    const pauseMs = retryMs(
      entry.failures,
      { waitedFor: entry.job.waitedFor, throttled },
      this.#options.random(),
    );
    return entry.job.triedAt + pauseMs;
  }

  /** An outage has ended: what clients wait for goes now. The rest comes as its pauses end and the renewal lane lets it. */
  #recovered(): void {
    const now = this.#options.now();
    for (const entry of this.#entries.values()) if (entry.job.waitedFor) entry.job.notBefore = now;
  }

  #count(result: Credentials | AssumeRoleError, durationMs: number): void {
    this.ended[result instanceof AssumeRoleError ? result.kind : "ok"] += 1;
    this.lastCallMs = durationMs;
    this.spentMs += durationMs;
  }
}

function answer(entry: Entry, value: CacheAnswer): void {
  entry.answer = value;
  for (const settle of [...entry.waiters]) settle(value);
}

/** AssumeRole promises to reject with its own error only; what breaks that promise is a bug, and its words are not trusted. */
function asCallError(error: unknown): AssumeRoleError {
  if (error instanceof AssumeRoleError) return error;
  return new AssumeRoleError("temporary", "InternalError", error instanceof Error ? error.name : "unknown");
}
