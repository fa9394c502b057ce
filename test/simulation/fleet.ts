import { keyOf } from "../../src/credentials/assume-role.ts";
import { CredentialCache } from "../../src/credentials/cache.ts";
import type { Log } from "../../src/log.ts";
import { SimulatedSts } from "./simulated-sts.ts";
import { SimulatedTime, seededRandom } from "./simulated-time.ts";

export type FleetOptions = {
  readonly seed: number;
  readonly hosts: number;
  readonly rolesPerHost: number;
  /** The hosts come up at random moments within this time. */
  readonly bootMs: number;
  /** Each container asks so long after its start, and every 2 s until it has credentials. */
  readonly askAfterMs: number;
  /** The cache's setting. */
  readonly startSpreadMs: number;
  /** The account's quota. */
  readonly quota: number;
  readonly minutes: number;
};

export type FleetResult = {
  readonly calls: number;
  readonly throttled: number;
  /** Of the first ten minutes. */
  readonly peakAtStart: number;
  /** When the last container had credentials, after the first boot. */
  readonly allServedMs: number;
  /** Asks that were answered with 503. */
  readonly unavailable: number;
  /** From the 30th minute on, calls in a second: the mean, and the highest of one second. */
  readonly steadyMean: number;
  readonly steadyPeak: number;
};

const silent: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

/** A whole account's hosts after a power cut: each with its own broker, all with one STS. */
export async function simulateFleet(options: FleetOptions): Promise<FleetResult> {
  const time = new SimulatedTime(0);
  const random = seededRandom(options.seed);
  const sts = new SimulatedSts({ time, latencyMs: 50, callsPerSecond: options.quota });
  let allServedMs = 0;
  let unavailable = 0;
  const caches: CredentialCache[] = [];

  const boot = (host: number) => {
    const cache = new CredentialCache({
      assumeRole: sts.assumeRole,
      now: time.now,
      wallNow: time.now,
      schedule: time.schedule,
      random,
      log: silent,
      limits: { startSpreadMs: options.startSpreadMs },
    });
    caches.push(cache);
    for (let role = 0; role < options.rolesPerHost; role++) {
      const roleArn = `arn:aws:iam::123456789012:role/containers/role-${role}`;
      const request = { roleArn, sessionName: `host-${host}-${role}`, durationSeconds: 3_600 };
      const key = keyOf(request);
      const holder = `container-${role}`;
      cache.prefetch(holder, key, request);
      const ask = async () => {
        const answer = await cache.get(holder, key, request);
        if (answer.kind === "credentials") {
          allServedMs = Math.max(allServedMs, time.now());
          return;
        }
        unavailable += 1;
        time.schedule(2_000, ask);
      };
      time.schedule(options.askAfterMs, ask);
    }
  };
  for (let host = 0; host < options.hosts; host++) time.schedule(random() * options.bootMs, () => boot(host));
  await time.runUntil(options.minutes * 60_000);
  for (const cache of caches) cache.close();

  const bySecond = (from: number, to: number) =>
    Array.from({ length: to - from }, (_, at) => sts.callsBySecond.get(from + at) ?? 0);
  const steady = bySecond(30 * 60, options.minutes * 60);
  return {
    calls: sts.total,
    throttled: sts.throttled,
    peakAtStart: Math.max(...bySecond(0, 600)),
    allServedMs,
    unavailable,
    steadyMean: steady.reduce((sum, calls) => sum + calls, 0) / steady.length,
    steadyPeak: Math.max(...steady),
  };
}
