import { MetadataError } from "../metadata/error.ts";
import type { FailureName } from "./failures.ts";

/** An entry of the table of failures. */
export type Diagnosis = { readonly failure: FailureName; readonly cause: string; readonly cure: string };

/** The cause, then what was said: `the connection to STS was closed before an answer (ECONNRESET: …)`. */
export function causeText({ cause, code, message }: Diagnosed): string {
  return `${cause} (${code}: ${message})`;
}

type Diagnosed = Pick<Diagnosis, "cause"> & Pick<Evidence, "code" | "message">;

/** What an error of a call to STS says about itself. */
type Evidence = {
  readonly kind: "refused" | "throttled" | "temporary";
  /** STS's code, Node's, or one of ours. */
  readonly code: string;
  readonly message: string;
  readonly httpStatus: number | undefined;
};

/** Which entry of the table an error is. Errors that know better name theirs when they are made. */
export function failureOf({ kind, code, message, httpStatus }: Evidence): FailureName {
  if (kind === "throttled") return "throttled";
  const named = byCode.get(code);
  if (named !== undefined) return named;
  if (/^AccessDenied(Exception)?$/.test(code)) return deniedBy(message);
  if (code === "ValidationError") return invalidBy(message);
  if (/^(SignatureDoesNotMatch|InvalidSignatureException)$/.test(code)) return signatureBy(message);
  if (/^ERR_(SSL|TLS)_/.test(code)) return "tls-protocol";
  if (code === "ERR_PROXY_TUNNEL") return httpStatus === 407 ? "proxy-auth" : "proxy-refused";
  if (kind === "refused") return "refused-otherwise";
  return httpStatus !== undefined && httpStatus >= 500 ? "sts-failing" : "unknown";
}

const codesOf: Partial<Record<FailureName, readonly string[]>> = {
  "dns-no-such-name": ["ENOTFOUND", "ENODATA", "EAI_NONAME", "EAI_NODATA"],
  "dns-failing": ["EAI_AGAIN", "EAI_FAIL", "ESERVFAIL", "EAI_SYSTEM", "ETIMEOUT", "EREFUSED"],
  "connection-refused": ["ECONNREFUSED"],
  "connection-reset": ["ECONNRESET", "ECONNABORTED", "EPIPE", "ERR_STREAM_PREMATURE_CLOSE"],
  "no-route": ["EHOSTUNREACH", "ENETUNREACH", "EHOSTDOWN", "ENETDOWN", "EADDRNOTAVAIL", "EACCES", "EPERM"],
  "sts-timeout": ["Timeout", "ETIMEDOUT", "ESOCKETTIMEDOUT", "RequestTimeout", "RequestTimeoutException"],
  "out-of-resources": ["EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "EAGAIN"],
  "tls-untrusted": [
    "DEPTH_ZERO_SELF_SIGNED_CERT",
    "SELF_SIGNED_CERT_IN_CHAIN",
    "UNABLE_TO_GET_ISSUER_CERT",
    "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
    "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    "CERT_UNTRUSTED",
    "CERT_REJECTED",
    "CERT_REVOKED",
    "CERT_CHAIN_TOO_LONG",
    "CERT_SIGNATURE_FAILURE",
    "INVALID_CA",
    "INVALID_PURPOSE",
  ],
  "tls-expired": ["CERT_HAS_EXPIRED", "CERT_NOT_YET_VALID"],
  "tls-name": ["ERR_TLS_CERT_ALTNAME_INVALID", "HOSTNAME_MISMATCH"],
  "tls-protocol": ["EPROTO", "HPE_INVALID_CONSTANT"],
  "not-from-sts": ["NotFromSts"],
  "answer-unusable": ["UnusableAnswer"],
  "sts-failing": [
    "IDPCommunicationError",
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "ServiceFailure",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "TransactionInProgressException",
  ],
  "not-sts": [
    "InvalidAction",
    "InvalidQueryParameter",
    "MalformedQueryString",
    "MissingAction",
    "UnknownOperationException",
    "UnsupportedOperation",
  ],
  "region-disabled": ["RegionDisabledException"],
  "keys-expired": ["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"],
  "keys-invalid": [
    "AuthFailure",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "UnrecognizedClientException",
  ],
  "clock-wrong": ["RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"],
  "signature-missing": [
    "IncompleteSignature",
    "IncompleteSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
  ],
  "account-inactive": ["NotSignedUp", "OptInRequired"],
  "first-role-refused": ["AssumeFirstRefused"],
  "malformed-policy": ["MalformedPolicyDocument", "MalformedPolicyDocumentException"],
  "policy-too-large": ["PackedPolicyTooLarge", "PackedPolicyTooLargeException"],
  "invalid-parameter": ["InvalidParameterCombination", "InvalidParameterValue", "MissingParameter"],
};

const byCode: ReadonlyMap<string, FailureName> = new Map(
  Object.entries(codesOf).flatMap(
    ([name, codes]) => codes.map((code) => [code, name as FailureName] as const), // a key of `codesOf`
  ),
);

/**
 * IAM's message names the action, and where it can, the kind of policy that decided:
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
 */
function deniedBy(message: string): FailureName {
  if (message.includes("explicit deny")) return "explicit-deny";
  if (message.includes("perform: sts:TagSession")) return "tag-permission";
  if (message.includes("perform: sts:SetSourceIdentity")) return "source-identity-permission";
  const missing = /\bno (?<kind>[a-z- ]+?) (?:allows|policies allow)\b/.exec(message)?.groups?.kind;
  if (missing === undefined) return "trust-or-permission";
  if (missing.startsWith("identity-based")) return "host-permission";
  if (missing.startsWith("resource-based")) return "trust-policy";
  return "session-or-boundary";
}

function invalidBy(message: string): FailureName {
  if (/role chaining/i.test(message)) return "duration-over-chaining-limit";
  return message.includes("MaxSessionDuration") ? "duration-over-role-maximum" : "invalid-parameter";
}

/** A wrong clock and a wrong secret have the same code. */
function signatureBy(message: string): FailureName {
  return /expired|not yet current/i.test(message) ? "clock-wrong" : "signature-wrong";
}

/** Which entry of the table a failure of a request to the metadata service is. */
export function metadataFailureOf(error: unknown): FailureName {
  if (!(error instanceof MetadataError)) return "metadata-failing";
  if (error.isLate) return "metadata-timeout";
  if (error.status === 404) return "metadata-no-tokens";
  if (error.status !== undefined) return statusFailure(error.status);
  const code = error.cause instanceof Error && "code" in error.cause ? String(error.cause.code) : error.kind;
  if (/^(ECONNRESET|EPIPE|HPE_\w+|bad-answer)$/.test(code)) return "metadata-failing";
  if (code === "ETIMEDOUT") return "metadata-timeout";
  return /^(EMFILE|ENFILE|ENOMEM|ENOBUFS)$/.test(code) ? "out-of-resources" : "metadata-unreachable";
}

/** The same, for an answer that came. */
export function statusFailure(status: number): FailureName {
  switch (status) {
    case 401:
      return "metadata-token-rejected";
    case 403:
      return "metadata-disabled";
    case 429:
      return "metadata-throttled";
    default:
      return "metadata-failing";
  }
}
