import type { RoleRequest } from "../roles/grant.ts";
import { type Diagnosis, failureOf } from "./diagnosis.ts";
import type { Credentials } from "./document.ts";
import { type FailureName, failures } from "./failures.ts";

/** Rejects only with an AssumeRoleError. */
export type AssumeRole = (request: RoleRequest, signal: AbortSignal) => Promise<Credentials>;

/**
 * - `refused`: IAM or STS refused this role; an immediate retry will not help.
 * - `throttled`: the account makes too many calls; the whole program must slow down.
 * - `temporary`: no answer, or one that says nothing about the role (network, 5xx, the host's own
 *   credentials).
 */
export type FailureKind = "refused" | "throttled" | "temporary";

/**
 * A code of STS, or one that EC2 uses for its failures, e.g. `AssumeRoleUnauthorizedAccess`. Open-ended: STS
 * may add codes. They are in PascalCase, so none of this program's own refusal codes (`no-role-requested`) is
 * one.
 */
export type StsCode = Capitalize<string>;

/**
 * Why there are no credentials. Holds text only, and never the SDK's error as its cause: that has a
 * `$response` with headers and bodies.
 */
export class AssumeRoleError extends Error {
  readonly kind: FailureKind;
  /**
   * STS's error code (`AccessDenied`), Node's (`ECONNREFUSED`), or one of ours
   * (`HostCredentialsUnavailable`).
   */
  readonly code: string;
  readonly httpStatus: number | undefined;
  /** Its entry in the table of failures. */
  readonly failure: FailureName;

  /** @param failure where the thrower knows it better than code and message tell */
  constructor(kind: FailureKind, code: string, message: string, httpStatus?: number, failure?: FailureName) {
    super(message);
    this.name = "AssumeRoleError";
    this.kind = kind;
    this.code = code;
    this.httpStatus = httpStatus;
    this.failure = failure ?? failureOf({ kind, code, message, httpStatus });
  }

  /** What is probably wrong, and what to do about it: for a log line. */
  get diagnosis(): Diagnosis {
    return { failure: this.failure, ...failures[this.failure] };
  }

  /** The same as two sentences. */
  get advice(): string {
    const { cause, cure } = failures[this.failure];
    return `${cause.charAt(0).toUpperCase()}${cause.slice(1)}. ${cure}`;
  }
}

/** The AssumeRoleError that an error is or was caused by. */
export function assumeRoleErrorIn(error: unknown): AssumeRoleError | undefined {
  let at = error;
  // Our own chains are short; a foreign one may be a circle.
  for (let depth = 0; depth < 8 && at instanceof Error; depth += 1) {
    if (at instanceof AssumeRoleError) return at;
    at = at.cause;
  }
  return undefined;
}

/**
 * Requests with the same key share their credentials, so it holds every input of AssumeRole, in a fixed
 * order.
 */
export function keyOf(request: RoleRequest): string {
  const tags = Object.entries(request.tags ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([
    request.roleArn,
    request.sessionName,
    request.durationSeconds,
    request.policy ?? null,
    [...(request.policyArns ?? [])].sort(),
    tags,
    request.externalId ?? null,
    request.sourceIdentity ?? null,
  ]);
}

/**
 * The codes with which AWS services throttle.
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
 */
const throttlingCodes: ReadonlySet<string> = new Set([
  "Throttling",
  "ThrottlingException",
  "ThrottledException",
  "RequestLimitExceeded",
  "RequestThrottled",
  "RequestThrottledException",
  "TooManyRequestsException",
  "SlowDown",
  "BandwidthLimitExceeded",
  "LimitExceededException",
  "PriorRequestNotComplete",
]);

/**
 * STS rejects the credentials or the clock that we sign with. The credentials may have been replaced since we
 * read them.
 */
const hostCredentialCodes: ReadonlySet<string> = new Set([
  "AuthFailure",
  "ExpiredToken",
  "ExpiredTokenException",
  "IncompleteSignature",
  "IncompleteSignatureException",
  "InvalidAccessKeyId",
  "InvalidClientTokenId",
  "InvalidSignatureException",
  "InvalidToken",
  "MissingAuthenticationToken",
  "MissingAuthenticationTokenException",
  "NotSignedUp",
  "OptInRequired",
  "RequestExpired",
  "RequestInTheFuture",
  "RequestTimeTooSkewed",
  "SignatureDoesNotMatch",
  "TokenRefreshRequired",
  "UnrecognizedClientException",
]);

/**
 * STS has a problem, or did not receive the call as we sent it. Says nothing about the role, whatever the
 * HTTP status.
 */
const notAboutTheRole: ReadonlySet<string> = new Set([
  "IDPCommunicationError",
  "InternalError",
  "InternalFailure",
  "InternalServerError",
  "InvalidAction",
  "InvalidQueryParameter",
  "MalformedQueryString",
  "MissingAction",
  "RequestTimeout",
  "RequestTimeoutException",
  "ServiceFailure",
  "ServiceUnavailable",
  "ServiceUnavailableException",
  "TransactionInProgressException",
  "UnknownOperationException",
  "UnsupportedOperation",
]);

/** STS refuses the role, the session or a parameter. */
const refusalCodes: ReadonlySet<string> = new Set([
  "AccessDenied",
  "AccessDeniedException",
  "InvalidParameterCombination",
  "InvalidParameterValue",
  "MalformedPolicyDocument",
  "MalformedPolicyDocumentException",
  "MissingParameter",
  "PackedPolicyTooLarge",
  "PackedPolicyTooLargeException",
  "RegionDisabledException",
  "ValidationError",
]);

/**
 * Whether STS is known to use this code. Unknown codes count only in a document that is certainly from STS.
 */
export function isKnownCode(code: string): boolean {
  return [refusalCodes, throttlingCodes, hostCredentialCodes, notAboutTheRole].some((codes) =>
    codes.has(code),
  );
}

export function isHostCredentialCode(code: string): boolean {
  return hostCredentialCodes.has(code);
}

/**
 * Classifies an answer that is known to be from STS (see sts-answer.ts). STS refuses with 400 or 403. An
 * unknown code with one of these is a refusal, because a retry would get the same answer. Any other status
 * says nothing about the role.
 */
export function kindOf(code: string, httpStatus: number | undefined): FailureKind {
  if (throttlingCodes.has(code) || httpStatus === 429) return "throttled";
  if (hostCredentialCodes.has(code) || notAboutTheRole.has(code)) return "temporary";
  return httpStatus === 400 || httpStatus === 403 ? "refused" : "temporary";
}

/**
 * The code and message that a container gets for a refusal; the code is the one that the real IMDS uses.
 * STS's own message names the host's role and the instance id. It is logged but not sent to containers,
 * except for errors about the session policy, which the container wrote itself.
 */
export function refusalFor(
  error: AssumeRoleError,
  roleArn: string,
): { readonly code: StsCode; readonly message: string } {
  const code = error.code as StsCode; // a refusal's code is STS's own, and those are in PascalCase
  switch (code) {
    case "AccessDenied":
    case "AccessDeniedException":
      return {
        code: "AssumeRoleUnauthorizedAccess",
        message: `The host of this container cannot assume the role ${roleArn}. Please see documentation at https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_iam-ec2.html#troubleshoot_iam-ec2_errors-info-doc.`,
      };
    case "MalformedPolicyDocument":
    case "MalformedPolicyDocumentException":
    case "PackedPolicyTooLarge":
    case "PackedPolicyTooLargeException":
      return { code: code.replace(/Exception$/, "") as StsCode, message: error.message }; // still PascalCase
    default:
      return { code, message: `STS refused to assume the role ${roleArn}: ${code}.` };
  }
}
