import type { Log } from "../log.ts";
import type { RoleRequest } from "../roles/grant.ts";
import type { AssumeRole } from "./assume-role.ts";
import { AssumeRoleError, isChainingLimit, isHostCredentialCode } from "./assume-role.ts";
import type { Credentials } from "./document.ts";
import { FirstHop } from "./first-hop.ts";
import { HostCredentials, type HostKeys } from "./host-credentials.ts";
import { asAssumeRoleError } from "./sdk-errors.ts";

export type StsSettings = {
  /** The true instance metadata service. */
  readonly metadataEndpoint: string;
  /** Undefined: the instance's own, asked for at the first call. */
  readonly region: string | undefined;
  /** Undefined: the region's. */
  readonly endpoint: string | undefined;
  /** From the environment; undefined: the instance profile. */
  readonly hostKeys:
    | { readonly accessKeyId: string; readonly secretAccessKey: string; readonly sessionToken?: string }
    | undefined;
  /** ARN of a role that the host assumes before the containers' roles. */
  readonly assumeFirst: string | undefined;
  readonly useFips: boolean;
  readonly useDualstack: boolean;
  /** For STS, never for the metadata service; `{}` for none. */
  readonly proxyEnvironment: {
    readonly HTTPS_PROXY?: string;
    readonly HTTP_PROXY?: string;
    readonly NO_PROXY?: string;
  };
  readonly log: Log;
  /** Milliseconds since the epoch; must never go back: see clock.ts. */
  readonly now: () => number;
  readonly timeouts?: Partial<StsTimeouts>;
  /** Connections to STS at one time; at least as many as calls in flight. */
  readonly maxSockets?: number;
};

/** One call to STS with given keys. */
export type StsConnection = {
  /** Rejects with anything; only `asAssumeRoleError` may look at it. */
  assumeRole(request: RoleRequest, keys: HostKeys, region: string, end: AbortSignal): Promise<Credentials>;
  /** How far STS's clock is ahead of ours, by its last answer. */
  readonly clockOffsetMs: number;
  close(): void;
};

export type StsTimeouts = {
  readonly connectMs: number;
  readonly requestMs: number;
  /** For one role with all that it takes: the host's credentials, the first hop, a repetition. */
  readonly deadlineMs: number;
  readonly metadataMs: number;
};

export const defaultTimeouts: StsTimeouts = {
  connectMs: 2_000,
  requestMs: 5_000,
  deadlineMs: 8_000,
  metadataMs: 2_000,
};

export type HostIdentity = {
  readonly source: "environment" | "instance profile";
  /** Undefined before the first call. */
  readonly accessKeyId: string | undefined;
  readonly region: string | undefined;
  /** How far STS's clock is ahead of ours. */
  readonly clockOffsetMs: number;
};

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
  async #within(end: AbortSignal, work: (end: AbortSignal) => Promise<Credentials>): Promise<Credentials> {
    const ended = Promise.withResolvers<never>();
    const onEnd = () =>
      ended.reject(new AssumeRoleError("temporary", "Timeout", "STS has not answered in time"));
    end.addEventListener("abort", onEnd, { once: true });
    try {
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
          (badKeys || error.code === "AccessDenied") &&
          !mended.has("keys") &&
          (await source.replaced(keys))
        ) {
          // They had expired, or the instance has got another profile.
          mended.add("keys");
        } else throw error;
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
