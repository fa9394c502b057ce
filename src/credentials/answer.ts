import type { AssumeRoleError, StsCode } from "./assume-role.ts";
import { refusalFor } from "./assume-role.ts";
import type { Credentials, Documents, FailureDocuments } from "./document.ts";
import { documentsOf, failureDocuments } from "./document.ts";

/** What a container's request for credentials is answered with. The same object until something changes. */
export type CacheAnswer =
  | { readonly kind: "credentials"; readonly credentials: Credentials; readonly documents: Documents }
  /** IAM said no: 200 with `Code` and `Message`, as EC2 does. */
  | {
      readonly kind: "refused";
      readonly code: StsCode;
      readonly message: string;
      readonly documents: FailureDocuments;
    }
  /** Not now: 503, so that clients try again and keep what they have. */
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

/** `error`: the last failure, if any call has ended. What went wrong in detail is the operator's business and in the log. */
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
