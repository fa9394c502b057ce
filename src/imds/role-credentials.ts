import type { CredentialCache } from "../credentials/cache.ts";
import type { Documents, FailureDocuments } from "../credentials/document.ts";
import type { RoleRequest } from "../roles/grant.ts";
import { noteServed } from "./activity.ts";
import type { Answer } from "./answers.ts";
import { type Caller, type ProofKind, reportGrant } from "./callers.ts";
import type { Exchange } from "./exchange.ts";
import { hasChanged, type Identified, type IdentityDependencies, lostProof } from "./identity.ts";

export type CredentialDependencies = Pick<IdentityDependencies, "directory" | "callers" | "locks" | "now"> & {
  readonly credentials: Pick<CredentialCache, "get">;
  /** Called when a container gets a set of credentials for the first time. */
  readonly granted: (caller: Caller, accessKeyId: string, expiresAt: number, proof: ProofKind) => void;
};

/** How one path answers with the role's credentials, or with the failure to get them. */
export type CredentialFormat = {
  readonly granted: (documents: Documents) => Answer;
  /** Whether `granted` contains the credentials, which makes it a grant for the audit record. */
  readonly isGrant: boolean;
  /** IAM or STS refused the role. */
  readonly refused: (documents: FailureDocuments) => Answer;
  /** STS has not answered; the client gets `Retry-After` as well. */
  readonly unavailable: (documents: FailureDocuments) => Answer;
};

/** Sends the credentials of a caller's role: from the cache at once, or when STS has answered. */
export async function sendCredentials(
  deps: CredentialDependencies,
  exchange: Exchange,
  identity: Identified,
  request: RoleRequest,
  format: CredentialFormat,
): Promise<void> {
  const { lookup, caller, proof } = identity;
  const pending = deps.credentials.get(caller.container.id, caller.key, request);
  exchange.from = pending instanceof Promise ? "sts" : "cache";
  const answer = pending instanceof Promise ? await pending : pending;
  // Since the caller was identified, the address may have moved to another container, or a reload may have
  // changed the decision.
  if (hasChanged(deps, exchange.address, lookup, caller))
    return exchange.refuse(
      "caller-changed",
      "the address moved to another container, or its role changed, while the role was being assumed",
    );
  const lost = lostProof(deps, identity);
  if (lost !== undefined) return exchange.refuse(lost.code, lost.reason);
  switch (answer.kind) {
    case "credentials":
      if (format.isGrant) {
        reportGrant(deps.granted, caller, answer.credentials, proof);
        noteServed(caller.activity, deps.now());
      }
      return exchange.send(format.granted(answer.documents));
    case "refused":
      return exchange.sendFailure(format.refused(answer.documents), answer.code, answer.message);
    case "unavailable": {
      const retryAfterSeconds = Math.max(1, Math.ceil(answer.retryAfterMs / 1000));
      exchange.response.setHeader("Retry-After", retryAfterSeconds);
      return exchange.sendFailure(format.unavailable(answer.documents), answer.code, answer.message);
    }
  }
}
