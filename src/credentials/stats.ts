import type { AssumeRoleError, FailureKind } from "./assume-role.ts";
import type { Diagnosis } from "./diagnosis.ts";
import type { RateState } from "./rate.ts";

/** Calls in a row that got neither credentials nor a refusal. */
export type StsFailure = Pick<AssumeRoleError, "kind" | "code" | "message"> &
  Diagnosis & {
    readonly calls: number;
    /** Since the first of them began. */
    readonly forMs: number;
  };

/** The state of the cache, for `status` and the metrics. */
export type CacheStats = {
  /** For the scheduler, which calls it an outage when calls for three roles have failed. */
  readonly state: RateState;
  /** Undefined where the last call was answered. One role is enough for it. */
  readonly failure: StsFailure | undefined;
  readonly callsPerSecond: number;
  readonly entries: number;
  /** Entries with valid credentials, with a refusal, and with neither. */
  readonly warm: number;
  readonly refused: number;
  readonly cold: number;
  /** Entries whose last call failed for a temporary reason. */
  readonly failing: number;
  /** Clients that are waiting for an answer. */
  readonly waiting: number;
  readonly queued: number;
  readonly inFlight: number;
  readonly stalled: number;
  /** Calls to STS since the start, by result. */
  readonly calls: Readonly<Record<"ok" | FailureKind, number>>;
  /** Requests since the start that shared another client's call. */
  readonly joined: number;
  /** Remaining life of the credentials that expire first; undefined without any. */
  readonly smallestRemainingMs: number | undefined;
  readonly lastCallMs: number | undefined;
  /** Duration of all calls since the start, added up. */
  readonly spentMs: number;
};
