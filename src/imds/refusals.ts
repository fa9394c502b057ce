import type { ProofCode } from "../containers/provenance.ts";
import type { StsCode } from "../credentials/assume-role.ts";
import type { DenialCode } from "../roles/denial.ts";
import { type Answer, type ErrorStatus, errorAnswers, tokenMethodAnswer } from "./answers.ts";
import type { Caller } from "./callers.ts";

/**
 * Every refusal code with its status and its words. A code keeps its name and has one status: the log, the
 * audit record, the metrics and `explain` carry it. docs/refusals.md has these tables; `make refusals` writes
 * them there.
 *
 * Which status: 403 for a caller that is known not to be entitled, since SDKs take it for "no IMDSv2 here"
 * and do not ask again. 503 for one that may be served in a moment. 404 where a real instance would have
 * nothing to show.
 */

type Entry = { readonly status: ErrorStatus; readonly why: string };
type RoleEntry = Entry & { readonly fix: string };

/** Why a container has no role; `why` is what the container does. */
export const roleRefusals = {
  "no-role-requested": {
    status: 404,
    why: "requests no role, and there is no `defaultAlias`",
    fix: "nothing if it needs no role; otherwise label it",
  },
  "label-required": { status: 404, why: "requests no role, and `requireLabel` is on", fix: "label it" },
  "refused-risk": {
    status: 404,
    why: "is privileged, has the engine's socket, … and `refuse` names that",
    fix: "start it without that",
  },
  "unknown-alias": {
    status: 404,
    why: "requests an alias that is not in the configuration",
    fix: "add the alias or correct the label",
  },
  "unknown-default-alias": {
    status: 404,
    why: "requests no role, and `defaultAlias` is not in the configuration",
    fix: "correct `defaultAlias`",
  },
  "invalid-role": {
    status: 404,
    why: "requests a value that begins with `arn:` but is not a role ARN",
    fix: "correct the label",
  },
  "role-arn-not-allowed": {
    status: 404,
    why: "requests an ARN that belongs to no alias and matches nothing in `allowRoleArns`",
    fix: "add an alias or a glob",
  },
  "alias-not-allowed": {
    status: 404,
    why: "requests an alias, or its ARN, whose `allow` does not match; the reason names the rule and the value",
    fix: "widen `allow` if the container should have the role",
  },
  "container-policy-not-allowed": {
    status: 404,
    why: "brings a session policy, but the alias has its own",
    fix: "remove the container's policy or set `containerPolicy`",
  },
  "invalid-policy": {
    status: 404,
    why: "brings a session policy that is not a JSON object with a Statement, is longer than 2048 characters, or is not Latin-1",
    fix: "correct the policy",
  },
} satisfies Record<DenialCode, RoleEntry>;

const proofRefusals = {
  "no-such-socket": {
    status: 403,
    why: "the container with this address has no such connection: something else uses its address, or the client is behind it (Docker in Docker, a VPN), as with a hop limit of 1",
  },
  "client-closed": {
    status: 403,
    why: "the client has closed its side of the connection: it gave up, for example while it waited for the service to start, or it half-closes before it reads (`nc -N`). No sign of an attack",
  },
  "port-listening": {
    status: 403,
    why: "the container listens on the client's port: the connection was opened *to* it from a forged address",
  },
  unreadable: {
    status: 503,
    why: "`/proc` cannot be read: processes are hidden (`hidepid`), or file descriptors or memory ran out",
  },
  "container-gone": {
    status: 503,
    why: "the container's first process has ended, and the engine has not yet reported who has the address now",
  },
  "no-pid": {
    status: 503,
    why: "the engine names no process on this host: the container is about to start, or the engine is remote",
  },
} satisfies Record<ProofCode, Entry>;

/** Who the caller is, and how much it asks for. */
export const callerRefusals = {
  "unknown-caller": { status: 403, why: "no running container has the address" },
  "engine-unavailable": {
    status: 503,
    why: "no container, or more than one, is known to have the address, and the guard or an engine cannot be read at the moment; the reason says which and why",
  },
  "address-conflict": { status: 403, why: "several running containers have the address" },
  ...proofRefusals,
  "address-not-locked": {
    status: 503,
    why: '`identityProof` is `"address"`, and the port lock is not in force for the container: it has just started, the guard is not running or has not been heard for 80 s, or the host cannot lock it; the reason says which, and so does `ec2metaproxy status`',
  },
  "caller-changed": {
    status: 503,
    why: "the address moved to another container while the caller was identified or its role was assumed",
  },
  "too-many-requests": { status: 429, why: "more than `limits.requestsPerSecond`" },
  "too-many-connections": {
    status: 503,
    why: "more than `limits.connections`, or more than the container's share of the file descriptors",
  },
  "too-many-waiting": {
    status: 503,
    why: "too many connections from this address, or from unknown addresses in total, wait for an engine to name their container",
  },
} satisfies Record<string, Entry>;

export const tokenRefusals = {
  "token-missing": { status: 401, why: "no token, and IMDSv2 is required" },
  "token-invalid": { status: 401, why: "the token is another container's, or has expired" },
  "token-ttl": { status: 400, why: "the requested TTL is not a whole number from 1 to 21600" },
  "token-version": { status: 403, why: "a token was requested under a dated version" },
  "token-method": { status: 405, why: "the token path was requested with a method other than PUT" },
  forwarded: {
    status: 403,
    why: "a token was requested through a proxy (`X-Forwarded-For`), or credentials on the port of `containerCredentials` (also `Via` and `Forwarded`)",
  },
} satisfies Record<string, Entry>;

const pathRefusals = {
  "method-not-allowed": { status: 405, why: "a method other than GET and HEAD" },
  "not-origin-form": { status: 400, why: "the request target is not a path" },
  "path-too-long": { status: 400, why: "the path is longer than 1024 characters" },
  "path-characters": { status: 400, why: "the path has a character that no metadata path has" },
  "path-encoding": { status: 400, why: "the path has a percent-encoded character that no metadata path has" },
  "dot-segment": { status: 400, why: "the path has a segment of dots" },
  "letter-case": { status: 404, why: "the path has upper-case letters; only the keys of instance tags may" },
  "unknown-version": { status: 404, why: "the path does not begin with `latest`, `1.0` or a dated version" },
  "unknown-tree": { status: 404, why: "the path is not under `meta-data`, `dynamic` or `user-data`" },
  "unknown-category": { status: 404, why: "the service has no category of this spelling" },
  "not-under-iam": {
    status: 404,
    why: "`meta-data/iam` has only `info`, `security-credentials` and one role under that",
  },
  "host-credentials": { status: 404, why: "the path holds the host's own credentials; no setting allows it" },
} satisfies Record<string, Entry>;

const passthroughRefusals = {
  "passthrough-disabled": { status: 404, why: "`passthrough.enabled` is false" },
  "category-denied": { status: 404, why: "`passthrough.deny` names this category" },
  "category-not-allowed": { status: 404, why: "`passthrough.allow` does not cover this category" },
  "category-never": { status: 404, why: "the category holds credentials and cannot be allowed" },
} satisfies Record<string, Entry>;

const upstreamRefusals = {
  upstream: { status: 503, why: "the instance's metadata service does not answer" },
  "upstream-invalid": {
    status: 502,
    why: "the instance's metadata service sent an answer that is too long or incomplete",
  },
  "upstream-busy": {
    status: 503,
    why: "the container has used its share of requests to the instance's metadata service, its turn did not come within two seconds, or it does not read what it requested; a retry helps ([passthrough.md](passthrough.md))",
  },
  "upstream-404": { status: 404, why: "the instance's metadata service has no such path" },
} satisfies Record<string, Entry>;

/** What is requested. */
export const requestRefusals = {
  "no-request": {
    status: 400,
    why: "not HTTP, a tunnel, or a request with a body: metadata requests have none, and the connection is closed",
  },
  host: { status: 403, why: "the Host header names something other than the metadata service" },
  path: { status: 404, why: "a path other than `/v1/credentials` on the port of `containerCredentials`" },
  method: { status: 405, why: "a method other than GET on the port of `containerCredentials`" },
  ...pathRefusals,
  "other-role": { status: 404, why: "credentials of a role other than the container's" },
  ...passthroughRefusals,
  ...upstreamRefusals,
  internal: { status: 500, why: "a bug in the proxy; please report it" },
} satisfies Record<string, Entry>;

export const refusals = { ...roleRefusals, ...callerRefusals, ...tokenRefusals, ...requestRefusals };

export type RefusalCode = keyof typeof refusals;
/** Refused by the path alone, before the caller is identified. */
export type PathCode = keyof typeof pathRefusals | "token-method" | "token-version";
/** The caller could not be identified. */
export type IdentityCode = Exclude<keyof typeof callerRefusals, "too-many-requests" | "too-many-connections">;
export type PassthroughCode = keyof typeof passthroughRefusals;
export type UpstreamCode = Exclude<keyof typeof upstreamRefusals, "upstream-404"> | "internal";

/** Why a request is refused. `reason` is for the operator. */
export type Refusal = { readonly code: RefusalCode; readonly reason: string };

/**
 * A request that was refused, for the audit record. `status` is what was sent: with STS's codes it depends on
 * the listener.
 */
export type RefusedRequest = {
  readonly status: number;
  readonly code: RefusalCode | StsCode;
  readonly reason: string;
  /** Canonical; empty where the kernel named none. */
  readonly address: string;
  readonly caller: Caller | undefined;
  /** The request target as received; empty if no request was read. */
  readonly path: string;
  /** Of the access log, if there is one. */
  readonly requestId?: string;
};

/** The metadata service's answer to a refused request. */
export function refusalAnswer(code: RefusalCode): Answer {
  return code === "token-method" ? tokenMethodAnswer : errorAnswers[refusals[code].status];
}
