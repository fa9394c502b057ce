import { AssumeRoleError, keyOf } from "../../../src/credentials/assume-role.ts";
import { type CacheAnswer, type CacheLimits, CredentialCache } from "../../../src/credentials/cache.ts";
import type { Log, LogFields } from "../../../src/log.ts";
import type { RoleRequest } from "../../../src/roles/grant.ts";
import { SimulatedSts, type SimulatedStsOptions } from "../../simulation/simulated-sts.ts";
import { SimulatedTime, seededRandom } from "../../simulation/simulated-time.ts";

export type Line = { readonly level: string; readonly fields: LogFields; readonly message: string };

/** A log that is kept: `lines` without the debug ones. */
export function keptLog(): { readonly log: Log; readonly lines: Line[]; readonly all: Line[] } {
  const all: Line[] = [];
  const lines: Line[] = [];
  const write = (level: string) => (fields: LogFields, message: string) => {
    all.push({ level, fields, message });
    if (level !== "debug") lines.push({ level, fields, message });
  };
  const log = { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
  return { log, lines, all };
}

/** A cache and an STS in simulated time. */
export function givenCache(
  options: {
    sts?: Partial<Omit<SimulatedStsOptions, "time">>;
    limits?: Partial<CacheLimits>;
    seed?: number;
  } = {},
) {
  const time = new SimulatedTime(1_700_000_000_000);
  const sts = new SimulatedSts({ time, latencyMs: 50, ...options.sts });
  const { log, lines } = keptLog();
  const cache = new CredentialCache({
    assumeRole: sts.assumeRole,
    now: time.now,
    wallNow: time.now,
    schedule: time.schedule,
    random: seededRandom(options.seed ?? 7),
    log,
    limits: options.limits ?? {},
  });
  const ask = (holder: string, request: RoleRequest) => cache.get(holder, keyOf(request), request);
  const want = (holder: string, request: RoleRequest) => cache.prefetch(holder, keyOf(request), request);
  return { time, sts, cache, lines, ask, want };
}

export function roleRequest(
  role: string,
  sessionName = "session",
  more: Partial<RoleRequest> = {},
): RoleRequest {
  return {
    roleArn: `arn:aws:iam::123456789012:role/containers/${role}`,
    sessionName,
    durationSeconds: 3_600,
    ...more,
  };
}

/** What a promise came to, as soon as it has. */
export function watch(answer: CacheAnswer | Promise<CacheAnswer>): { value: CacheAnswer | undefined } {
  const seen: { value: CacheAnswer | undefined } = { value: undefined };
  Promise.resolve(answer).then((value) => {
    seen.value = value;
  });
  return seen;
}

export const accessDenied = new AssumeRoleError(
  "refused",
  "AccessDenied",
  "User: arn:aws:sts::123456789012:assumed-role/host/i-1 is not authorized to perform: sts:AssumeRole",
  403,
);
