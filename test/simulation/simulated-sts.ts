import { type AssumeRole, AssumeRoleError } from "../../src/credentials/assume-role.ts";
import type { Credentials } from "../../src/credentials/document.ts";
import type { SimulatedTime } from "./simulated-time.ts";

export type SimulatedStsOptions = {
  readonly time: SimulatedTime;
  readonly latencyMs: number;
  /** More than this in one second are throttled; undefined: no limit. */
  readonly callsPerSecond?: number;
  /** Called at the end of each call's latency: what is wrong now with this role. */
  readonly fault?: (roleArn: string, now: number) => "down" | "hang" | AssumeRoleError | undefined;
};

/** STS in simulated time: latency, a quota in windows of one second, and faults. Counts what it is asked. */
export class SimulatedSts {
  readonly #options: SimulatedStsOptions;
  readonly #inWindow = new Map<number, number>();
  /** Calls by minute since the epoch, of every outcome. */
  readonly callsByMinute = new Map<number, number>();
  readonly callsBySecond = new Map<number, number>();
  /** By role ARN and session name. */
  readonly callsOf = new Map<string, number>();
  total = 0;
  throttled = 0;
  failed = 0;
  inFlight = 0;
  maxInFlight = 0;

  constructor(options: SimulatedStsOptions) {
    this.#options = options;
  }

  readonly assumeRole: AssumeRole = async (request, signal) => {
    const { time, latencyMs, callsPerSecond = Number.POSITIVE_INFINITY, fault } = this.#options;
    const name = `${request.roleArn} ${request.sessionName}`;
    const second = Math.floor(time.now() / 1000);
    count(this.callsByMinute, Math.floor(second / 60));
    count(this.callsBySecond, second);
    count(this.callsOf, name);
    this.total += 1;
    this.inFlight += 1;
    this.maxInFlight = Math.max(this.maxInFlight, this.inFlight);
    try {
      const over = count(this.#inWindow, second) > callsPerSecond;
      await time.sleep(latencyMs);
      const wrong = fault?.(request.roleArn, time.now());
      if (wrong instanceof AssumeRoleError) throw wrong;
      if (wrong === "hang") await aborted(signal);
      if (wrong !== undefined) {
        this.failed += 1;
        throw new AssumeRoleError("temporary", "InternalFailure", "STS is down", 500);
      }
      if (over) {
        this.throttled += 1;
        throw new AssumeRoleError("throttled", "Throttling", "Rate exceeded", 400);
      }
      return credentialsAt(time.now(), request, this.total);
    } finally {
      this.inFlight -= 1;
    }
  };
}

function credentialsAt(
  now: number,
  request: { readonly roleArn: string; readonly sessionName: string; readonly durationSeconds: number },
  serial: number,
): Credentials {
  const roleName = request.roleArn.slice(request.roleArn.lastIndexOf("/") + 1);
  return {
    accessKeyId: `ASIA${String(serial).padStart(16, "0")}`,
    secretAccessKey: "simulated",
    sessionToken: "simulated",
    expiresAt: now + request.durationSeconds * 1000,
    fetchedAt: now,
    lifetimeMs: request.durationSeconds * 1000,
    accountId: "123456789012",
    assumedRoleArn: `arn:aws:sts::123456789012:assumed-role/${roleName}/${request.sessionName}`,
    assumedRoleId: `AROAEXAMPLE:${request.sessionName}`,
  };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

function count<Key>(counts: Map<Key, number>, key: Key): number {
  const value = (counts.get(key) ?? 0) + 1;
  counts.set(key, value);
  return value;
}
