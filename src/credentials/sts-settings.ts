import type { Log } from "../log.ts";
import type { MetadataClient } from "../metadata/client.ts";
import type { RoleRequest } from "../roles/grant.ts";
import type { Credentials } from "./document.ts";
import type { HostKeys } from "./host-credentials.ts";

export type StsSettings = {
  /** The real instance metadata service; closed by its owner. */
  readonly metadata: Pick<MetadataClient, "endpoint" | "read">;
  /** Undefined: the instance's own, read at the first call. */
  readonly region: string | undefined;
  /** Undefined: the regional endpoint. */
  readonly endpoint: string | undefined;
  /** From the environment; undefined: the instance profile. */
  readonly hostKeys:
    | { readonly accessKeyId: string; readonly secretAccessKey: string; readonly sessionToken?: string }
    | undefined;
  /** ARN of a role that the host assumes before the containers' roles. */
  readonly assumeFirst: string | undefined;
  readonly useFips: boolean;
  readonly useDualstack: boolean;
  /** Used for STS, never for the metadata service; `{}` for none. */
  readonly proxyEnvironment: {
    readonly HTTPS_PROXY?: string;
    readonly HTTP_PROXY?: string;
    readonly NO_PROXY?: string;
  };
  /** PEM certificates of the authorities to trust instead of the usual ones, for STS only. */
  readonly caBundle?: string;
  readonly log: Log;
  /** For durations, milliseconds; monotonic, see clock.ts. */
  readonly now: () => number;
  /** This host's wall clock, milliseconds since the epoch; may be wrong and may jump. */
  readonly wallNow: () => number;
  readonly timeouts?: Partial<StsTimeouts>;
  /** Connections to STS; at least as many as calls in flight. */
  readonly maxSockets?: number;
};

/** One call to STS with given keys. */
export type StsConnection = {
  /** Rejects with an AssumeRoleError. */
  assumeRole(request: RoleRequest, keys: HostKeys, region: string, end: AbortSignal): Promise<Credentials>;
  /** The ARN of the owner of these keys. Needs no permission. */
  callerArn(keys: HostKeys, region: string, end: AbortSignal): Promise<string>;
  /** How far STS's clock is ahead of our wall clock, as of its last answer. */
  readonly clockOffsetMs: number;
  close(): void;
};

export type StsTimeouts = {
  readonly connectMs: number;
  /**
   * From the call to the answer's last byte. Below 5 s, the longest that a waiting client waits for a retry.
   */
  readonly requestMs: number;
  /** For one role including the host's credentials, the first hop and a retry. */
  readonly deadlineMs: number;
  /** For each request to the metadata service. */
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
