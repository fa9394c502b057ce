import type { FailureKind } from "./assume-role.ts";
import type { FailureName } from "./failures.ts";
import type { RateState } from "./rate.ts";

/** Why roles cannot be assumed at the moment, once for each cause. */
export type CredentialProblem = {
  readonly failure: FailureName;
  readonly cause: string;
  readonly cure: string;
  /** What was said last, by STS or by the network. */
  readonly reason: string;
  readonly roleArns: readonly string[];
};

/** The state of the cache, for `status` and the metrics. */
export type CacheStats = {
  readonly state: RateState;
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
  readonly problems: readonly CredentialProblem[];
  /** Duration of all calls since the start, added up. */
  readonly spentMs: number;
};
