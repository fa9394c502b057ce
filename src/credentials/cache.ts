import type { RoleRequest } from "../roles/grant.ts";
import type { CacheAnswer } from "./answer.ts";
import type { FailureKind } from "./assume-role.ts";
import type { CallOptions } from "./calls.ts";
import { RoleCalls } from "./calls.ts";
import type { Entry } from "./entry.ts";
import { newEntry } from "./entry.ts";
import type { CacheLimits } from "./limits.ts";
import { defaultLimits } from "./limits.ts";
import { logExpired } from "./log-lines.ts";
import type { PaceState } from "./rate.ts";

export type { CacheAnswer } from "./answer.ts";
export type { CacheLimits } from "./limits.ts";

export type CacheOptions = CallOptions & { readonly limits?: Partial<CacheLimits> };

export type CacheStats = {
  readonly state: PaceState;
  readonly callsPerSecond: number;
  readonly entries: number;
  /** Entries with valid credentials, with a refusal, and with neither. */
  readonly warm: number;
  readonly refused: number;
  readonly cold: number;
  /** Entries whose last call got no answer. */
  readonly failing: number;
  /** Clients that are being held. */
  readonly waiting: number;
  readonly queued: number;
  readonly inFlight: number;
  readonly stalled: number;
  /** Since the start. */
  readonly calls: Readonly<Record<"ok" | FailureKind, number>>;
  /** Requests that found somebody else waiting for the same call. */
  readonly joined: number;
  /** Of the credentials that expire first; undefined without any. */
  readonly smallestRemainingMs: number | undefined;
  readonly lastCallMs: number | undefined;
  /** Of all calls together, since the start. */
  readonly spentMs: number;
};

/** The credentials of every container on this host: fetched early, renewed in time, kept through outages. */
export class CredentialCache {
  readonly #options: CacheOptions;
  readonly #limits: CacheLimits;
  readonly #calls: RoleCalls;
  readonly #entries = new Map<string, Entry>();
  readonly #keyOfHolder = new Map<string, string>();
  readonly #startedAt: number;
  #joined = 0;
  /** Renewals a second when nothing is wrong: the sum over all entries. */
  #renewalRate = 0;

  constructor(options: CacheOptions) {
    this.#options = options;
    this.#limits = { ...defaultLimits, ...options.limits };
    this.#calls = new RoleCalls(options, this.#limits, this.#entries);
    this.#startedAt = options.now();
  }

  /**
   * The hot path: synchronous when something is known. A promise, of at most `waitMs`, where STS must be waited for;
   * it never rejects. The call to STS goes on when the client has gone, and its answer is there for the next.
   * `holder`: the container's id. `key`: keyOf(request), made once and kept by the caller.
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

  /** What is known now; undefined for nothing. Asks STS for nothing. */
  peek(key: string): CacheAnswer | undefined {
    const entry = this.#entries.get(key);
    return entry === undefined ? undefined : this.#known(entry);
  }

  /** This container will want these credentials. If it held others, because its grant has changed, it lets go of them. */
  prefetch(holder: string, key: string, request: RoleRequest): void {
    const entry = this.#hold(holder, key, request);
    if (this.#known(entry) === undefined) this.#calls.lanes.add(entry.job);
  }

  /** The container is gone. Credentials that nobody else holds are forgotten, and a call for them is given up. */
  release(holder: string): void {
    const key = this.#keyOfHolder.get(holder);
    if (key === undefined) return;
    this.#keyOfHolder.delete(holder);
    const entry = this.#entries.get(key);
    entry?.holders.delete(holder);
    if (entry?.holders.size === 0) this.#drop(entry);
  }

  /** Releases every holder that is not one of these: for after a re-list, when events were missed. */
  retain(holders: ReadonlySet<string>): void {
    for (const holder of [...this.#keyOfHolder.keys()]) if (!holders.has(holder)) this.release(holder);
  }

  /** Gives up all calls; those who wait are told that there is nothing. */
  close(): void {
    this.#calls.lanes.close();
    for (const entry of [...this.#entries.values()]) this.#drop(entry);
    this.#keyOfHolder.clear();
  }

  stats(): CacheStats {
    const now = this.#options.now();
    const count = { warm: 0, refused: 0, cold: 0, failing: 0, waiting: 0 };
    let firstExpiry = Number.POSITIVE_INFINITY;
    for (const entry of this.#entries.values()) {
      const known = this.#known(entry);
      if (known?.kind === "credentials") firstExpiry = Math.min(firstExpiry, entry.answerUntil);
      count[known?.kind === "credentials" ? "warm" : known?.kind === "refused" ? "refused" : "cold"] += 1;
      if (entry.failures > 0) count.failing += 1;
      count.waiting += entry.waiters.size;
    }
    const { pace, lanes, ended, lastCallMs, spentMs } = this.#calls;
    return {
      state: pace.state,
      callsPerSecond: pace.callsPerSecond,
      entries: this.#entries.size,
      ...count,
      queued: lanes.queued,
      inFlight: lanes.inFlight,
      stalled: lanes.stalled,
      calls: { ...ended },
      joined: this.#joined,
      smallestRemainingMs: Number.isFinite(firstExpiry) ? firstExpiry - now : undefined,
      lastCallMs,
      spentMs,
    };
  }

  #known(entry: Entry): CacheAnswer | undefined {
    return this.#options.now() < entry.answerUntil ? entry.answer : undefined;
  }

  #wait(entry: Entry, waitMs: number): Promise<CacheAnswer> {
    if (entry.answer?.kind === "credentials") logExpired(this.#options.log, entry);
    entry.answer = undefined;
    entry.job.renewalOf = undefined;
    if (entry.waiters.size > 0) this.#joined += 1;
    return new Promise((resolve) => {
      const settle = (answer: CacheAnswer) => {
        cancel();
        entry.waiters.delete(settle);
        resolve(answer);
      };
      const cancel = this.#options.schedule(waitMs, () => settle(this.#calls.unavailable(entry)));
      entry.waiters.add(settle);
      this.#calls.want(entry);
    });
  }

  #hold(holder: string, key: string, request: RoleRequest): Entry {
    const former = this.#keyOfHolder.get(holder);
    if (former !== undefined && former !== key) this.release(holder);
    this.#keyOfHolder.set(holder, key);
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      const now = this.#options.now();
      const starting = now - this.#startedAt < this.#limits.startSpreadMs;
      entry = newEntry(
        key,
        request,
        starting ? now + this.#options.random() * this.#limits.startSpreadMs : now,
      );
      this.#entries.set(key, entry);
      this.#changeRenewalRate(request, 1);
    }
    entry.holders.add(holder);
    return entry;
  }

  #drop(entry: Entry): void {
    this.#entries.delete(entry.key);
    this.#changeRenewalRate(entry.request, -1);
    this.#calls.drop(entry);
  }

  #changeRenewalRate(request: RoleRequest, sign: 1 | -1): void {
    // A longer session may be cut to one hour by STS; that renewals may come too fast then is the lesser evil.
    this.#renewalRate += (sign * 2) / Math.min(request.durationSeconds, 3_600);
    this.#calls.lanes.setRenewalRate(this.#renewalRate);
  }
}
