import type { RoleRequest } from "../roles/grant.ts";
import type { Credentials } from "./document.ts";

/** Rejects with an AssumeRoleError, and with nothing else. */
export type AssumeRole = (request: RoleRequest, signal: AbortSignal) => Promise<Credentials>;

/**
 * - `refused`: IAM or STS said no to this role; asking again soon will not help.
 * - `throttled`: the account asks too much; the whole program must slow down.
 * - `temporary`: no answer, or one that says nothing about the role (network, 5xx, the host's own credentials).
 */
export type FailureKind = "refused" | "throttled" | "temporary";

/**
 * A code of STS, or one that EC2 uses for its failures, e.g. `AssumeRoleUnauthorizedAccess`. Open-ended: STS may add some. They are in
 * PascalCase, so none of this program's own refusal codes (`no-role-requested`) is one.
 */
export type StsCode = Capitalize<string>;

/** Why there are no credentials. Carries words only: never the SDK's error, whose `$response` holds headers and bodies. */
export class AssumeRoleError extends Error {
  readonly kind: FailureKind;
  /** STS's error code (`AccessDenied`), Node's (`ECONNREFUSED`), or one of ours (`HostCredentialsUnavailable`). */
  readonly code: string;
  readonly httpStatus: number | undefined;

  constructor(kind: FailureKind, code: string, message: string, httpStatus?: number) {
    super(message);
    this.name = "AssumeRoleError";
    this.kind = kind;
    this.code = code;
    this.httpStatus = httpStatus;
  }
}

/** Two requests with the same key get the same credentials: so every input of AssumeRole is in it, in a fixed order. */
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

/** The codes by which AWS services say "too often". https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html */
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

/** STS does not like the credentials that we sign with, or the clock that we sign by; they may have been replaced since we read them. */
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

/** STS has trouble of its own, or did not get the call that we sent: nothing is said about the role, whatever the status. */
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

/** What STS says of a role, a session or what was asked for. */
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

/** Whether the code is one that STS is known to give. Others count only in a document that is certainly STS's. */
export function isKnownCode(code: string): boolean {
  return [refusalCodes, throttlingCodes, hostCredentialCodes, notAboutTheRole].some((codes) =>
    codes.has(code),
  );
}

export function isHostCredentialCode(code: string): boolean {
  return hostCredentialCodes.has(code);
}

/**
 * By the code and the status of an answer that is known to be STS's (see sts-answer.ts). STS refuses with 400 or 403; a code that nobody has
 * listed is a refusal there, for it would be answered the same way again. Any other status says nothing about the role.
 */
export function kindOf(code: string, httpStatus: number | undefined): FailureKind {
  if (throttlingCodes.has(code) || httpStatus === 429) return "throttled";
  if (hostCredentialCodes.has(code) || notAboutTheRole.has(code)) return "temporary";
  return httpStatus === 400 || httpStatus === 403 ? "refused" : "temporary";
}

/** STS's answer to more than an hour for a role that was itself assumed by a role. */
export function isChainingLimit(code: string, message: string): boolean {
  return code === "ValidationError" && /role chaining/i.test(message);
}

/**
 * What a container is told of a refusal: the code that the real IMDS uses for it, and words.
 * Who was refused (the host's role, the instance id) is in STS's own message; that goes to the log and not to containers,
 * except where it can only be about what the container wrote itself: its policy.
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
