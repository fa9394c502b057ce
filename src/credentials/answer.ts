import type { AssumeRoleError, StsCode } from "./assume-role.ts";
import { refusalFor } from "./assume-role.ts";
import type { Credentials, Documents, FailureDocuments } from "./document.ts";
import { documentsOf, failureDocuments } from "./document.ts";

/** The answer to a container's request for credentials. Stays the same object until something changes. */
export type CacheAnswer =
  | { readonly kind: "credentials"; readonly credentials: Credentials; readonly documents: Documents }
  /** IAM refused: sent as 200 with `Code` and `Message`, as EC2 does. */
  | {
      readonly kind: "refused";
      readonly code: StsCode;
      readonly message: string;
      readonly documents: FailureDocuments;
    }
  /** Temporary: sent as 503, so that clients retry and keep the credentials that they have. */
  | {
      readonly kind: "unavailable";
      readonly code: "CredentialsUninitialized";
      readonly message: string;
      readonly retryAfterMs: number;
      readonly documents: FailureDocuments;
    };

export function credentialsAnswer(credentials: Credentials, roleArn: string): CacheAnswer {
  return { kind: "credentials", credentials, documents: documentsOf(credentials, roleArn) };
}

export function refusedAnswer(error: AssumeRoleError, roleArn: string, at: number): CacheAnswer {
  const failure = refusalFor(error, roleArn);
  return { kind: "refused", ...failure, documents: failureDocuments(failure, at, 403) };
}

/** `error`: the last failure, if a call has ended. Its details are for the operator, and are only logged. */
export function unavailableAnswer(
  error: AssumeRoleError | undefined,
  roleArn: string,
  at: number,
  retryAfterMs: number,
): CacheAnswer {
  const failure = {
    code: "CredentialsUninitialized" as const,
    message:
      error === undefined
        ? `STS has not answered yet for the role ${roleArn}; try again.`
        : `There are no credentials for the role ${roleArn} at the moment (${error.code}); try again.`,
  };
  return { kind: "unavailable", ...failure, retryAfterMs, documents: failureDocuments(failure, at, 503) };
}
