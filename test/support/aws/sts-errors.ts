/** An error of the STS API: its code, the HTTP status, and the text that AWS uses, if it is known. */
export type StsError = { readonly code: string; readonly status: number; readonly message: string };

export const throttled: StsError = { code: "Throttling", status: 400, message: "Rate exceeded" };

export const internalFailure: StsError = {
  code: "InternalFailure",
  status: 500,
  message: "We encountered an internal error. Please try again.",
};

export const expiredToken: StsError = {
  code: "ExpiredToken",
  status: 403,
  message: "The security token included in the request is expired",
};

export const invalidClientToken: StsError = {
  code: "InvalidClientTokenId",
  status: 403,
  message: "The security token included in the request is invalid.",
};

export const missingAuthentication: StsError = {
  code: "MissingAuthenticationToken",
  status: 403,
  message: "Request is missing Authentication Token",
};

export function incompleteSignature(message: string): StsError {
  return { code: "IncompleteSignature", status: 400, message };
}

export function signatureMismatch(message: string): StsError {
  return { code: "SignatureDoesNotMatch", status: 403, message };
}

export function validation(message: string): StsError {
  return { code: "ValidationError", status: 400, message };
}

export function malformedPolicy(message: string): StsError {
  return { code: "MalformedPolicyDocument", status: 400, message };
}

export function packedPolicyTooLarge(percent: number): StsError {
  const message = `Packed policy consumes ${percent}% of allotted space, please use smaller policy.`;
  return { code: "PackedPolicyTooLarge", status: 400, message };
}

export function accessDenied(callerArn: string, roleArn: string): StsError {
  const message = `User: ${callerArn} is not authorized to perform: sts:AssumeRole on resource: ${roleArn}`;
  return { code: "AccessDenied", status: 403, message };
}

export function regionDisabled(accountId: string): StsError {
  const advice = "Your account administrator can activate STS in this region using the IAM Console.";
  const message = `STS is not activated in this region for account:${accountId}. ${advice}`;
  return { code: "RegionDisabledException", status: 403, message };
}

export function invalidAction(action: string, version: string): StsError {
  const message = `Could not find operation ${action || "unspecified"} for version ${version || "NO_VERSION_SPECIFIED"}`;
  return { code: "InvalidAction", status: 400, message };
}

export const durationOverRoleMaximum = validation(
  "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
);

export const durationOverChainingLimit = validation(
  "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
);
