import type { Log } from "../log.ts";
import type { RoleRequest } from "../roles/grant.ts";
import type { Credentials } from "./document.ts";
import type { HostKeys } from "./host-credentials.ts";

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
  /** For durations, in milliseconds; never goes back and never jumps: see clock.ts. */
  readonly now: () => number;
  /** What this host takes for the time, milliseconds since the epoch; may be wrong and may jump. */
  readonly wallNow: () => number;
  readonly timeouts?: Partial<StsTimeouts>;
  /** Connections to STS at one time; at least as many as calls in flight. */
  readonly maxSockets?: number;
};

/** One call to STS with given keys. */
export type StsConnection = {
  /** Rejects with anything; only `asAssumeRoleError` may look at it. */
  assumeRole(request: RoleRequest, keys: HostKeys, region: string, end: AbortSignal): Promise<Credentials>;
  /** Who these keys are. Needs no permission. */
  callerArn(keys: HostKeys, region: string, end: AbortSignal): Promise<string>;
  /** How far STS's clock is ahead of our wall clock, by its last answer. */
  readonly clockOffsetMs: number;
  close(): void;
};

export type StsTimeouts = {
  readonly connectMs: number;
  /** From the call to the answer's last byte. Below 5 s: a client that waits must not wait longer for the next try. */
  readonly requestMs: number;
  /** For one role with all that it takes: the host's credentials, the first hop, a repetition. */
  readonly deadlineMs: number;
  readonly metadataMs: number;
};

export const defaultTimeouts: StsTimeouts = {
  connectMs: 2_000,
  requestMs: 4_000,
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
