import { exitCodes, OperatorError } from "../errors.ts";
import type { RoleRequest } from "../roles/grant.ts";
import { singleFlight } from "../single-flight.ts";
import type { AssumeRole } from "./assume-role.ts";
import { AssumeRoleError, isHostCredentialCode } from "./assume-role.ts";
import type { Credentials } from "./document.ts";
import { type FailureName, failures } from "./failures.ts";
import { FirstHop } from "./first-hop.ts";
import { HostCredentials, type HostKeys } from "./host-credentials.ts";
import { asAssumeRoleError } from "./sdk-errors.ts";
import {
  defaultTimeouts,
  type HostIdentity,
  type StsConnection,
  type StsSettings,
  type StsTimeouts,
} from "./sts-settings.ts";

export type { HostIdentity, StsSettings } from "./sts-settings.ts";

/**
 * The longest session that one role session can open for another role (role chaining), and the least that a
 * role's own maximum can be set to: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
 */
const chainedSeconds = 3_600;
/** STS refuses the requested duration; one of an hour is always possible. */
type DurationLimit = Extract<FailureName, "duration-over-chaining-limit" | "duration-over-role-maximum">;
/** The SDK corrects its clock when it is off by more than this. */
const skewMs = 240_000;

/** STS with this host's credentials. Call `close` at the end: connections are kept open. */
export function openSts(settings: StsSettings): HostSts {
  if (settings.endpoint !== undefined && (settings.useFips || settings.useDualstack)) {
    const hint = "Name the FIPS or dual-stack endpoint itself there, or leave it out.";
    const message =
      "sts.useFips and sts.useDualstack choose an AWS endpoint, but sts.endpoint, AWS_ENDPOINT_URL_STS or AWS_ENDPOINT_URL already names one";
    throw new OperatorError(message, { hint, exitCode: exitCodes.configuration });
  }
  return new HostSts(settings);
}

/**
 * Assumes roles as this host: with its credentials, in its region, through the first hop, with one retry
 * where that can help.
 */
export class HostSts {
  readonly #settings: StsSettings;
  readonly #timeouts: StsTimeouts;
  readonly #host: HostCredentials;
  readonly #firstHop: FirstHop | undefined;
  /** Why STS does not allow this host the configured duration, by role ARN: one hour is requested instead. */
  readonly #limited = new Map<string, DurationLimit>();
  #region: string | undefined;
  #client: StsConnection | undefined;
  #closed = false;

  constructor(settings: StsSettings) {
    this.#settings = settings;
    this.#timeouts = { ...defaultTimeouts, ...settings.timeouts };
    this.#region = settings.region;
    const keys = settings.hostKeys;
    this.#host = new HostCredentials({
      metadata: settings.metadata,
      environmentKeys:
        keys === undefined ? undefined : { sessionToken: undefined, ...keys, expiresAt: undefined },
      timeoutMs: this.#timeouts.metadataMs,
      now: settings.now,
      wallNow: settings.wallNow,
    });
    const { assumeFirst } = settings;
    if (assumeFirst === undefined) return;
    const first = { roleArn: assumeFirst, sessionName: "ec2metaproxy", durationSeconds: chainedSeconds };
    // It has a deadline of its own: the caller that started it may give up while others wait for the same
    // result.
    const open = () =>
      this.#within(AbortSignal.timeout(this.#timeouts.deadlineMs), (end, phase) =>
        this.#assumeAs(this.#host, first, end, phase),
      );
    this.#firstHop = new FirstHop(open, settings.now);
  }

  readonly assumeRole: AssumeRole = (request, signal) =>
    this.#within(AbortSignal.any([signal, AbortSignal.timeout(this.#timeouts.deadlineMs)]), (end, phase) =>
      this.#assumeAs(this.#firstHop ?? this.#host, request, end, phase),
    );

  /** Why sessions of this role have one hour and not their `durationSeconds`; undefined if they have it. */
  durationLimit(roleArn: string): DurationLimit | undefined {
    return this.#limited.get(roleArn);
  }

  /** This host's AWS identity, as far as it is known yet. */
  identity(): HostIdentity {
    const { source, accessKeyId } = this.#host;
    return { source, accessKeyId, region: this.#region, clockOffsetMs: this.#clockOffsetMs };
  }

  /**
   * Asks STS for this host's ARN: `arn:aws:sts::123456789012:assumed-role/host/i-0abc`. Called at startup, it
   * also warms up the host's credentials, the connection and the SDK (150 ms) before the first container
   * asks. Rejects with an AssumeRoleError.
   */
  callerArn(signal: AbortSignal): Promise<string> {
    return this.#within(
      AbortSignal.any([signal, AbortSignal.timeout(this.#timeouts.deadlineMs)]),
      async (end, phase) => {
        const keys = await this.#host.current();
        const region = await this.region(end);
        phase.waitsFor = "STS";
        return (await this.#loadedClient()).callerArn(keys, region, end);
      },
    );
  }

  /** The configured region, or the instance's own. */
  async region(end: AbortSignal): Promise<string> {
    end.throwIfAborted();
    this.#region ??= await this.#host.region();
    return this.#region;
  }

  close(): void {
    this.#closed = true;
    this.#client?.close();
  }

  /**
   * Ends when `end` is aborted, even if the work does not listen to it. Every failure becomes an
   * AssumeRoleError.
   */
  async #within<Result>(
    end: AbortSignal,
    work: (end: AbortSignal, phase: Phase) => Promise<Result>,
  ): Promise<Result> {
    const ended = Promise.withResolvers<never>();
    const phase: Phase = { waitsFor: "the host's credentials" };
    const onEnd = () => ended.reject(lateError(phase));
    end.addEventListener("abort", onEnd, { once: true });
    try {
      end.throwIfAborted();
      return await Promise.race([work(end, phase), ended.promise]);
    } catch (error) {
      throw asAssumeRoleError(error, end.aborted);
    } finally {
      end.removeEventListener("abort", onEnd);
    }
  }

  /** Signs with keys from `source`. Of the three failures that a retry can fix, each is retried once. */
  async #assumeAs(
    source: HostCredentials | FirstHop,
    request: RoleRequest,
    end: AbortSignal,
    phase: Phase,
  ): Promise<Credentials> {
    const retried = new Set<"duration" | "clock" | "keys">();
    for (;;) {
      phase.waitsFor = "the host's credentials";
      const keys = await source.current();
      const region = await this.region(end);
      phase.waitsFor = "STS";
      const offsetBefore = this.#clockOffsetMs;
      const durationSeconds = this.#limited.has(request.roleArn)
        ? Math.min(request.durationSeconds, chainedSeconds)
        : request.durationSeconds;
      try {
        const client = await this.#loadedClient();
        return await client.assumeRole({ ...request, durationSeconds }, keys, region, end);
      } catch (thrown) {
        const error = asAssumeRoleError(thrown, end.aborted);
        const badKeys = isHostCredentialCode(error.code);
        const limit = isDurationLimit(error.failure) ? error.failure : undefined;
        if (limit !== undefined && durationSeconds > chainedSeconds) {
          this.#noteLimit(request, limit);
          retried.add("duration");
        } else if (
          badKeys &&
          !retried.has("clock") &&
          Math.abs(this.#clockOffsetMs - offsetBefore) > skewMs
        ) {
          // The SDK has corrected its clock by STS's answer; the next signature will be right.
          retried.add("clock");
        } else if (
          (badKeys || (error.code === "AccessDenied" && source === this.#host)) &&
          !retried.has("keys") &&
          (await source.replaced(keys))
        ) {
          // They had expired, or the instance has a new instance profile.
          retried.add("keys");
        } else throw badKeys && source === this.#host ? this.#aboutHostKeys(error, keys) : error;
      }
    }
  }

  #noteLimit({ roleArn, durationSeconds }: RoleRequest, limit: DurationLimit): void {
    if (this.#limited.has(roleArn)) return;
    this.#limited.set(roleArn, limit);
    const { cause, cure } = failures[limit];
    this.#settings.log.warn(
      { code: "role-duration", failure: limit, roleArn, durationSeconds, cause, cure },
      "assuming the role: STS does not allow its durationSeconds; requesting one hour from now on",
    );
  }

  #aboutHostKeys(error: AssumeRoleError, keys: HostKeys): AssumeRoleError {
    const { kind, code, message, httpStatus, failure } = error;
    if (this.#host.source === "environment" && failure === "keys-expired")
      return new AssumeRoleError(kind, code, message, httpStatus, "environment-keys-expired");
    const note = this.#host.expiryNote(keys);
    // Expired keys of an instance profile are unknown to STS after a while.
    if (note !== "") return new AssumeRoleError(kind, code, `${message}${note}`, httpStatus, "keys-expired");
    return error;
  }

  /** How far STS's clock is ahead of ours, as of its last answer. */
  get #clockOffsetMs(): number {
    return this.#client?.clockOffsetMs ?? 0;
  }

  /**
   * Loads the SDK at the first call: that takes tens of milliseconds, which the start of the service must not
   * pay.
   */
  async #loadedClient(): Promise<StsConnection> {
    // A failure (too many open files, say) is not kept: the next call tries again.
    return this.#client ?? this.#load();
  }

  readonly #load = singleFlight(async () => {
    const { StsClient } = await import("./sts-client.ts");
    this.#client = new StsClient({ ...this.#settings, ...this.#timeouts });
    if (this.#closed) this.#client.close();
    return this.#client;
  });
}

/** What a call waits for, for the error if it takes too long. */
type Phase = { waitsFor: "the host's credentials" | "STS" };

function lateError({ waitsFor }: Phase): AssumeRoleError {
  return waitsFor === "STS"
    ? new AssumeRoleError("temporary", "Timeout", "STS has not answered in time")
    : new AssumeRoleError(
        "temporary",
        "Timeout",
        "the host's own credentials did not come in time",
        undefined,
        "metadata-timeout",
      );
}

function isDurationLimit(failure: FailureName): failure is DurationLimit {
  return failure === "duration-over-chaining-limit" || failure === "duration-over-role-maximum";
}
