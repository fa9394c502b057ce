import { keyOf } from "../../src/credentials/assume-role.ts";
import { type CacheAnswer, CredentialCache } from "../../src/credentials/cache.ts";
import type { Log } from "../../src/log.ts";
import { SimulatedSts } from "./simulated-sts.ts";
import { SimulatedTime, seededRandom } from "./simulated-time.ts";

const minute = 60_000;
const hour = 60 * minute;

export type DayOptions = {
  readonly seed: number;
  readonly containers: number;
  /** All start within this time, at even distances. */
  readonly startMs: number;
  /** STS gives no answer but 500 for so long, at the end of each period. */
  readonly outageMs: number;
  readonly outageEveryMs: number;
  readonly callsPerSecond: number;
  readonly hours: number;
  /** Where it stops counting the start, which is a burst by nature. */
  readonly settledMs: number;
};

/** The scenario of the design: what a busy host goes through in a bad day. */
export const badDay: DayOptions = {
  seed: 1,
  containers: 1_000,
  startMs: 30_000,
  outageMs: 20 * minute,
  outageEveryMs: 4 * hour,
  callsPerSecond: 20,
  hours: 24,
  settledMs: 5 * minute,
};

export type DayResult = {
  readonly asked: number;
  /** Answers that were no valid credentials. */
  readonly errors: number;
  readonly smallestRemainingMs: number;
  /** The same without the time of the outages and the 30 minutes after each. */
  readonly smallestRemainingInPeaceMs: number;
  /** Calls to STS in each minute of the day, those that failed included. */
  readonly callsByMinute: readonly number[];
  readonly calls: number;
  readonly failed: number;
  readonly throttled: number;
  readonly maxInFlight: number;
  /** Mean and highest of a minute, once settled. */
  readonly mean: number;
  readonly peak: number;
  readonly logLines: readonly string[];
};

export async function simulateDay(options: DayOptions): Promise<DayResult> {
  const time = new SimulatedTime(0);
  const random = seededRandom(options.seed);
  const end = options.hours * hour;
  const down = (now: number) => now % options.outageEveryMs >= options.outageEveryMs - options.outageMs;
  const troubled = (now: number) => down(now) || now % options.outageEveryMs < 30 * minute;
  const { callsPerSecond } = options;
  const fault = (_: string, now: number) => (down(now) ? ("down" as const) : undefined);
  const sts = new SimulatedSts({ time, latencyMs: 50, callsPerSecond, fault });
  const logLines: string[] = [];
  const cache = new CredentialCache({
    assumeRole: sts.assumeRole,
    now: time.now,
    wallNow: time.now,
    schedule: time.schedule,
    random,
    log: linesTo(logLines, time.now),
  });

  let asked = 0;
  let errors = 0;
  let smallest = Number.POSITIVE_INFINITY;
  let smallestInPeace = Number.POSITIVE_INFINITY;
  const start = (index: number) => {
    const holder = `container-${index}`;
    const roleArn = `arn:aws:iam::123456789012:role/containers/role-${index % 50}`;
    const request = { roleArn, sessionName: holder, durationSeconds: 3_600 };
    const key = keyOf(request);
    cache.prefetch(holder, key, request);
    const note = (answer: CacheAnswer) => {
      asked += 1;
      const remaining = answer.kind === "credentials" ? answer.credentials.expiresAt - time.now() : 0;
      if (remaining <= 0) errors += 1;
      else smallest = Math.min(smallest, remaining);
      if (remaining > 0 && !troubled(time.now())) smallestInPeace = Math.min(smallestInPeace, remaining);
    };
    const ask = () => {
      // Clients come about every three minutes, the first time two minutes after the start.
      time.schedule((1 + 4 * random()) * minute, ask);
      const answer = cache.get(holder, key, request);
      if (answer instanceof Promise) answer.then(note);
      else note(answer);
      return answer instanceof Promise;
    };
    time.schedule(2 * minute, ask);
  };
  for (let index = 0; index < options.containers; index++) {
    time.schedule((index * options.startMs) / options.containers, () => start(index));
  }
  await time.runUntil(end);
  cache.close();

  const callsByMinute = Array.from({ length: end / minute }, (_, at) => sts.callsByMinute.get(at) ?? 0);
  const settled = callsByMinute.slice(options.settledMs / minute);
  return {
    asked,
    errors,
    smallestRemainingMs: smallest,
    smallestRemainingInPeaceMs: smallestInPeace,
    callsByMinute,
    calls: sts.total,
    failed: sts.failed,
    throttled: sts.throttled,
    maxInFlight: sts.maxInFlight,
    mean: settled.reduce((sum, calls) => sum + calls, 0) / settled.length,
    peak: Math.max(...settled),
    logLines,
  };
}

/** Every line but the debug ones, with its minute. */
function linesTo(lines: string[], now: () => number): Log {
  const write = (level: string) => (_: unknown, message: string) => {
    lines.push(`${String(Math.floor(now() / minute)).padStart(4)} min  ${level}  ${message}`);
  };
  return { debug: () => undefined, info: write("info"), warn: write("warn"), error: write("error") };
}
