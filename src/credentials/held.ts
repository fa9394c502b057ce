import type { AssumeRoleError } from "./assume-role.ts";
import type { Diagnosis } from "./diagnosis.ts";

/** Of the last credentials that STS gave; by the monotonic clock, except `expiresAt`. */
export type Issued = {
  readonly fetchedAt: number;
  readonly validUntil: number;
  /** Since the epoch, by STS's clock. */
  readonly expiresAt: number;
};

/** What a container holds, without the secrets. */
export type HeldCredentials = {
  /** `missing`: neither valid credentials nor a refusal. */
  readonly state: "valid" | "refused" | "missing";
  /** Of the last credentials, expired ones included: milliseconds since the epoch, by STS's clock. */
  readonly expiresAt: number | undefined;
  /** 0 or less once they have expired. */
  readonly remainingMs: number | undefined;
  /** Since STS gave them. */
  readonly ageMs: number | undefined;
  /** For how long there should have been valid credentials and were none; 0 while there are. */
  readonly missingMs: number;
  /** Of the last call; undefined if it succeeded. */
  readonly lastError:
    | (Pick<AssumeRoleError, "kind" | "code" | "message"> & Diagnosis & { readonly agoMs: number })
    | undefined;
};

type Entry = {
  readonly issued: Issued | undefined;
  readonly wantedSince: number;
  readonly lastError: AssumeRoleError | undefined;
  readonly lastErrorAt: number;
};

export function heldCredentials(
  { issued, wantedSince, lastError, lastErrorAt }: Entry,
  now: number,
): HeldCredentials {
  const isValid = issued !== undefined && now < issued.validUntil;
  return {
    state: isValid ? "valid" : lastError?.kind === "refused" ? "refused" : "missing",
    expiresAt: issued?.expiresAt,
    remainingMs: issued && issued.validUntil - now,
    ageMs: issued && now - issued.fetchedAt,
    missingMs: isValid ? 0 : Math.max(0, now - (issued?.validUntil ?? wantedSince)),
    lastError: lastError && {
      kind: lastError.kind,
      code: lastError.code,
      message: lastError.message,
      ...lastError.diagnosis,
      agoMs: now - lastErrorAt,
    },
  };
}
