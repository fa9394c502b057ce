import type { LaneLimits } from "./scheduler.ts";

export type CacheLimits = LaneLimits & {
  /** Of this host; the quota of 600 a second is the account's, in a region. */
  readonly callsPerSecond: number;
  /** A call that has not ended by then is given up, whatever the STS client does about it. */
  readonly callMs: number;
  /** How long a client is held. Go v2 gives up after 500 ms and comes again; the others give up after 1 s, most of them for good. */
  readonly waitMs: number;
  /** For so long after the start, credentials that nobody waits for are fetched at a random moment. For fleets; see docs/credentials.md. */
  readonly startSpreadMs: number;
};

export const defaultLimits: CacheLimits = {
  callsInFlight: 64,
  callsPerSecond: 120,
  stalledAfterMs: 2_000,
  stalledCalls: 192,
  callMs: 10_000,
  waitMs: 900,
  startSpreadMs: 0,
};
