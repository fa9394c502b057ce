import type { RoleRequest } from "../roles/grant.ts";
import type { AssumeRole } from "./assume-role.ts";
import { AssumeRoleError, isChainingLimit, isHostCredentialCode } from "./assume-role.ts";
import type { Credentials } from "./document.ts";
import { FirstHop } from "./first-hop.ts";
import { HostCredentials } from "./host-credentials.ts";
import { asAssumeRoleError } from "./sdk-errors.ts";
import {
  defaultTimeouts,
  type HostIdentity,
  type StsConnection,
  type StsSettings,
  type StsTimeouts,
} from "./sts-settings.ts";

/** A role session that was opened by a role session lives no longer. */
const chainedSeconds = 3_600;
/** The SDK's own measure of a clock that is wrong. */
const skewMs = 240_000;

/** Assumes roles as this host: with its credentials, in its region, through its first hop, again where that helps at once. */
export class HostSts {
  readonly #settings: StsSettings;
  readonly #timeouts: StsTimeouts;
  readonly #host: HostCredentials;
  readonly #client: StsConnection;
  readonly #firstHop: FirstHop | undefined;
  /** Roles that this host may have for an hour only. */
  readonly #chained = new Set<string>();
  #region: string | undefined;

  constructor(settings: StsSettings, client: StsConnection) {
    this.#settings = settings;
    this.#timeouts = { ...defaultTimeouts, ...settings.timeouts };
    this.#region = settings.region;
    const keys = settings.hostKeys;
    this.#host = new HostCredentials({
      metadataEndpoint: settings.metadataEndpoint,
      environmentKeys:
        keys === undefined ? undefined : { sessionToken: undefined, ...keys, expiresAt: undefined },
      timeoutMs: this.#timeouts.metadataMs,
      now: settings.now,
      wallNow: settings.wallNow,
    });
    this.#client = client;
    const { assumeFirst } = settings;
    if (assumeFirst === undefined) return;
    const first = { roleArn: assumeFirst, sessionName: "ec2metaproxy", durationSeconds: chainedSeconds };
    // A deadline of its own: whoever asked first may give up, others wait for the same.
    const open = () =>
      this.#within(AbortSignal.timeout(this.#timeouts.deadlineMs), (end) => this.#as(this.#host, first, end));
    this.#firstHop = new FirstHop(open, settings.now);
  }

  readonly assumeRole: AssumeRole = (request, signal) =>
    this.#within(AbortSignal.any([signal, AbortSignal.timeout(this.#timeouts.deadlineMs)]), (end) =>
      this.#as(this.#firstHop ?? this.#host, request, end),
    );

  /** Who this host is to AWS, as far as that is known yet. */
  identity(): HostIdentity {
    const { source, accessKeyId } = this.#host;
    return { source, accessKeyId, region: this.#region, clockOffsetMs: this.#client.clockOffsetMs };
  }

  /**
   * Asks STS who this host is: `arn:aws:sts::123456789012:assumed-role/host/i-0abc`. Done at the start, it also has the host's credentials, the
   * connection and the SDK's first call (150 ms) behind it when the first container comes. Rejects with an AssumeRoleError.
   */
  callerArn(signal: AbortSignal): Promise<string> {
    return this.#within(
      AbortSignal.any([signal, AbortSignal.timeout(this.#timeouts.deadlineMs)]),
      async (end) => this.#client.callerArn(await this.#host.current(), await this.region(end), end),
    );
  }

  /** The configured region, or the instance's own. */
  async region(end: AbortSignal): Promise<string> {
    end.throwIfAborted();
    this.#region ??= await this.#host.region();
    return this.#region;
  }

  close(): void {
    this.#client.close();
    this.#host.close();
  }

  /** Ends when `end` does, also where the work itself does not listen to it; every failure comes out as an AssumeRoleError. */
  async #within<Result>(end: AbortSignal, work: (end: AbortSignal) => Promise<Result>): Promise<Result> {
    const ended = Promise.withResolvers<never>();
    const onEnd = () =>
      ended.reject(new AssumeRoleError("temporary", "Timeout", "STS has not answered in time"));
    end.addEventListener("abort", onEnd, { once: true });
    try {
      end.throwIfAborted();
      return await Promise.race([work(end), ended.promise]);
    } catch (error) {
      throw asAssumeRoleError(error, end.aborted);
    } finally {
      end.removeEventListener("abort", onEnd);
    }
  }

  /** With keys from `source`. Each of the three things that can be mended is mended once. */
  async #as(
    source: HostCredentials | FirstHop,
    request: RoleRequest,
    end: AbortSignal,
  ): Promise<Credentials> {
    const mended = new Set<"duration" | "clock" | "keys">();
    for (;;) {
      const keys = await source.current();
      const region = await this.region(end);
      const offsetBefore = this.#client.clockOffsetMs;
      const durationSeconds = this.#chained.has(request.roleArn)
        ? Math.min(request.durationSeconds, chainedSeconds)
        : request.durationSeconds;
      try {
        return await this.#client.assumeRole({ ...request, durationSeconds }, keys, region, end);
      } catch (thrown) {
        const error = asAssumeRoleError(thrown, end.aborted);
        const badKeys = isHostCredentialCode(error.code);
        if (isChainingLimit(error.code, error.message) && durationSeconds > chainedSeconds) {
          this.#noteChained(request);
          mended.add("duration");
        } else if (
          badKeys &&
          !mended.has("clock") &&
          Math.abs(this.#client.clockOffsetMs - offsetBefore) > skewMs
        ) {
          // STS's answer told the SDK what time it is; the next signature is right.
          mended.add("clock");
        } else if (
          (badKeys || (error.code === "AccessDenied" && source === this.#host)) &&
          !mended.has("keys") &&
          (await source.replaced(keys))
        ) {
          // They had expired, or the instance has got another profile.
          mended.add("keys");
        } else
          throw badKeys && source === this.#host ? complaining(error, this.#host.complaint(keys)) : error;
      }
    }
  }

  #noteChained(request: RoleRequest): void {
    if (this.#chained.has(request.roleArn)) return;
    this.#chained.add(request.roleArn);
    const fields = { roleArn: request.roleArn, durationSeconds: request.durationSeconds };
    this.#settings.log.warn(
      fields,
      "assuming the role: STS allows this host one hour at a time, so sessions of one hour are asked for",
    );
  }
}

function complaining(error: AssumeRoleError, complaint: string): AssumeRoleError {
  if (complaint === "") return error;
  return new AssumeRoleError(error.kind, error.code, `${error.message}${complaint}`, error.httpStatus);
}
