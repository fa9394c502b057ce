import type { Test } from "tap";
import { AssumeRoleError, keyOf } from "../../../src/credentials/assume-role.ts";
import { type CacheAnswer, type CacheLimits, CredentialCache } from "../../../src/credentials/cache.ts";
import { openSts, type StsSettings } from "../../../src/credentials/sts.ts";
import type { Log, LogFields } from "../../../src/log.ts";
import { MetadataClient } from "../../../src/metadata/client.ts";
import type { RoleRequest } from "../../../src/roles/grant.ts";
import { SimulatedSts, type SimulatedStsOptions } from "../../simulation/simulated-sts.ts";
import { SimulatedTime, seededRandom } from "../../simulation/simulated-time.ts";
import { type Aws, type AwsOptions, startAws } from "../../support/aws/aws.ts";

export type Line = { readonly level: string; readonly fields: LogFields; readonly message: string };

/** A log that keeps its lines: `all`, and `lines` without debug. */
export function recordingLog(): { readonly log: Log; readonly lines: Line[]; readonly all: Line[] } {
  const all: Line[] = [];
  const lines: Line[] = [];
  const write = (level: string) => (fields: LogFields, message: string) => {
    all.push({ level, fields, message });
    if (level !== "debug") lines.push({ level, fields, message });
  };
  const log = { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
  return { log, lines, all };
}

/** A cache and STS, both in simulated time. */
export function simulatedCache(
  options: {
    sts?: Partial<Omit<SimulatedStsOptions, "time">>;
    limits?: Partial<CacheLimits>;
    seed?: number;
    wallNow?: () => number;
  } = {},
) {
  const time = new SimulatedTime(1_700_000_000_000);
  const sts = new SimulatedSts({ time, latencyMs: 50, ...options.sts });
  const { log, lines } = recordingLog();
  const cache = new CredentialCache({
    assumeRole: sts.assumeRole,
    now: time.now,
    wallNow: options.wallNow ?? time.now,
    schedule: time.schedule,
    random: seededRandom(options.seed ?? 7),
    log,
    limits: options.limits ?? {},
  });
  const get = (holder: string, request: RoleRequest) => cache.get(holder, keyOf(request), request);
  const prefetch = (holder: string, request: RoleRequest) => cache.prefetch(holder, keyOf(request), request);
  return { time, sts, cache, lines, get, prefetch };
}

/**
 * The SDK against the AWS stand-in: on an EC2 instance, unless the settings say otherwise. Fails the test if
 * a secret was logged.
 */
export async function realSts(t: Test, settings: Partial<StsSettings> = {}, awsOptions: AwsOptions = {}) {
  const aws = await startAws(awsOptions);
  const { log, lines, all } = recordingLog();
  t.teardown(async () => {
    await aws.stop();
    mustHoldNoSecret(aws, all);
  });
  const metadata = new MetadataClient({ endpoint: aws.imds.url, now: Date.now });
  t.teardown(() => metadata.close());
  const sts = openSts({
    metadata,
    region: undefined,
    endpoint: aws.sts.url,
    hostKeys: undefined,
    assumeFirst: undefined,
    useFips: false,
    useDualstack: false,
    proxyEnvironment: {},
    log,
    now: Date.now,
    wallNow: Date.now,
    ...settings,
  });
  t.teardown(() => sts.close());
  const end = new AbortController();
  const assume = (role: string, more: Partial<RoleRequest> = {}) =>
    sts.assumeRole(roleRequest(role, "web-1", more), end.signal);
  return { aws, sts, log, lines, all, assume, end };
}

/** The cache with the SDK against the AWS stand-in, in real time. */
export async function realCache(t: Test, settings: Partial<StsSettings> = {}) {
  const clocks = { now: () => performance.timeOrigin + performance.now(), wallNow: Date.now };
  const fixture = await realSts(t, { ...clocks, timeouts: { requestMs: 1_000 }, ...settings });
  const cache = new CredentialCache({
    assumeRole: fixture.sts.assumeRole,
    ...clocks,
    random: Math.random,
    schedule: (delayMs, run) => {
      const timer = setTimeout(run, delayMs);
      return () => clearTimeout(timer);
    },
    log: fixture.log,
  });
  t.teardown(() => cache.close());
  const get = (role: string) => cache.get(role, keyOf(roleRequest(role)), roleRequest(role));
  return { ...fixture, cache, get };
}

/** Throws, so that it fails the test from a teardown too. */
export function mustHoldNoSecret(aws: Aws, lines: readonly Line[]): void {
  const text = JSON.stringify(lines);
  const secrets = aws
    .secrets()
    .flatMap(({ secretAccessKey, sessionToken }) => [secretAccessKey, sessionToken]);
  if (secrets.some((secret) => secret !== "" && text.includes(secret)))
    throw new Error(`a secret in the log: ${text}`);
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

/** Has the answer in `value` as soon as there is one. */
export function watch(answer: CacheAnswer | Promise<CacheAnswer>): { value: CacheAnswer | undefined } {
  const seen: { value: CacheAnswer | undefined } = { value: undefined };
  Promise.resolve(answer).then((value) => {
    seen.value = value;
  });
  return seen;
}

export function mustBeUnavailable(answer: CacheAnswer) {
  if (answer.kind === "unavailable") return answer;
  throw new Error(`expected an unavailable answer, got ${answer.kind}`);
}

export async function assumeRoleError(promise: Promise<unknown>): Promise<AssumeRoleError> {
  const error: unknown = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof AssumeRoleError) return error;
  throw new Error(`expected an AssumeRoleError, got ${String(error)}`);
}

export const accessDenied = new AssumeRoleError(
  "refused",
  "AccessDenied",
  "User: arn:aws:sts::123456789012:assumed-role/host/i-1 is not authorized to perform: sts:AssumeRole",
  403,
);

export const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/**
 * For tests in real time. 5 s are specified, and held on an idle machine; these tests distinguish that from a
 * pause of minutes.
 */
export const busyMachineMs = 20_000;
