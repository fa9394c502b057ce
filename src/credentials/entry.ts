import type { RoleRequest } from "../roles/grant.ts";
import type { CacheAnswer } from "./answer.ts";
import type { AssumeRoleError } from "./assume-role.ts";
import type { Credentials } from "./document.ts";
import type { Job } from "./scheduler.ts";

/** All that is known of one key. */
export type Entry = {
  readonly key: string;
  readonly request: RoleRequest;
  /** Ids of the containers that may ask for it. */
  readonly holders: Set<string>;
  readonly job: Job;
  /** What a client is told without waiting, as long as the clock has not reached `answerUntil`. */
  answer: CacheAnswer | undefined;
  answerUntil: number;
  /** Resolve functions of the clients that wait. */
  readonly waiters: Set<(answer: CacheAnswer) => void>;
  /** Temporary failures, and refusals, since the last success. */
  failures: number;
  refusals: number;
  lastError: AssumeRoleError | undefined;
  /** What the log was told last, so that it is told of changes only. */
  logged: "new" | "ok" | "failing" | `refused ${string}`;
  renewals: number;
  cancelRenewal: (() => void) | undefined;
  call: AbortController | undefined;
};

export function newEntry(key: string, request: RoleRequest, notBefore: number): Entry {
  return {
    key,
    request,
    holders: new Set(),
    job: { key, waitedFor: false, renewalOf: undefined, notBefore, triedAt: 0, queuedAt: 0 },
    answer: undefined,
    answerUntil: 0,
    waiters: new Set(),
    failures: 0,
    refusals: 0,
    lastError: undefined,
    logged: "new",
    renewals: 0,
    cancelRenewal: undefined,
    call: undefined,
  };
}

/**
 * When to renew, as an age. From half of the lifetime on, over a window that ends well before the age at which less than
 * 25 minutes of an hour are left (35 minutes; botocore takes less for an outage and stretches the expiry by itself).
 * The first renewal may come much earlier: what started together, on one host or on a fleet after a power cut, would
 * otherwise renew together for a day. It costs one extra call in the life of a container.
 */
export function renewalAge(lifetimeMs: number, renewals: number, random: number): number {
  const from = renewals === 0 ? 0.2 : 0.5;
  return lifetimeMs * (from + (0.565 - from) * random);
}

/** The age by which a renewal should be there: 35 minutes of 60. */
export function neededAge(lifetimeMs: number): number {
  return (lifetimeMs * 35) / 60;
}

/** How long a refusal is remembered: 5 s, doubling up to 5 min. IAM itself takes seconds to believe a new trust policy. */
export function refusalMs(refusals: number, random: number): number {
  return Math.min(300_000, 5_000 * 2 ** (refusals - 1)) * (0.8 + 0.4 * random);
}

/** How long until a failed call is tried again: soon while a client wants it, else up to a minute. Full jitter over the upper half. */
export function retryMs(
  failures: number,
  options: { readonly waitedFor: boolean; readonly throttled: boolean },
  random: number,
): number {
  const base = options.throttled ? 500 : 100;
  const most = options.waitedFor ? 3_000 : 60_000;
  return Math.min(most, base * 3 ** (failures - 1)) * (0.5 + 0.5 * random);
}

/** When these stop being valid, by our clock. */
export function expiryOf(credentials: Credentials): number {
  return credentials.fetchedAt + credentials.lifetimeMs;
}
