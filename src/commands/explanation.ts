import type { Config } from "../config/schema.ts";
import type { Container } from "../containers/container.ts";
import type { Protection } from "../containers/protection.ts";
import type { Denial, DenialCode, Grant } from "../roles/grant.ts";
import { composeProject, composeService, requestedPolicies, requestedRoles } from "../roles/request.ts";
import type { ContainerStatus } from "./container-status.ts";

/**
 * What `explain --json` prints; docs/refusals.md describes it. Keys are added, never renamed; absent values
 * are null.
 */
export type Explanation = {
  readonly config: string;
  readonly container: {
    readonly id: string;
    readonly name: string;
    readonly source: Container["source"];
    readonly image: string;
    readonly imageId: string;
    readonly user: string;
    readonly composeProject: string | null;
    readonly composeService: string | null;
    readonly networks: readonly {
      readonly network: string;
      readonly ipv4: string | null;
      readonly ipv6: string | null;
    }[];
    readonly risks: Container["risks"];
  };
  /** How its callers are identified. `locked` is null without a guard, or where there is nothing to lock. */
  readonly identity: {
    readonly proof: Config["identityProof"];
    readonly locked: boolean | null;
    /** Why it is not locked. */
    readonly reason: string | null;
  };
  /** By precedence: only the first of each list is used. */
  readonly asks: {
    readonly roles: readonly { readonly source: string; readonly value: string }[];
    readonly policies: readonly { readonly source: string; readonly value: string }[];
  };
  readonly granted: boolean;
  readonly source: Grant["source"] | null;
  readonly grant: {
    readonly alias: string | null;
    readonly rule: string;
    readonly roleName: string;
    readonly roleArn: string;
    readonly sessionName: string;
    readonly durationSeconds: number;
    readonly httpTokens: Grant["httpTokens"];
    readonly policySource: Grant["policySource"];
    readonly policy: string | null;
    readonly policyArns: readonly string[];
    readonly tags: Readonly<Record<string, string>>;
    readonly sourceIdentity: string | null;
    /** Whether there is one. The id itself is not shown: other accounts' trust policies rely on it. */
    readonly externalId: boolean;
    readonly notes: readonly string[];
  } | null;
  readonly refusal: { readonly code: DenialCode; readonly reason: string; readonly hint: string } | null;
  /** The container in whose network it runs: its requests come from there, and get what that one gets. */
  readonly networkOwner: {
    readonly id: string;
    readonly name: string | null;
    readonly roleArn: string | null;
    readonly code: DenialCode | null;
  } | null;
  /** What the running proxy knows; null where it was not asked, or does not answer. */
  readonly live: Live | null;
};

export type Live = {
  readonly state: ContainerStatus["state"];
  readonly message: string;
  readonly hint: string;
  readonly credentials: {
    readonly state: NonNullable<ContainerStatus["credentials"]>["state"];
    readonly expires: string | null;
    readonly expiresInSeconds: number | null;
    readonly refreshedSecondsAgo: number | null;
    readonly lastError: NonNullable<NonNullable<ContainerStatus["credentials"]>["lastError"]> | null;
  } | null;
  readonly requests: number;
  readonly refusals: number;
  readonly lastRefusal: NonNullable<ContainerStatus["lastRefusal"]> | null;
};

/** @param protection undefined without a guard, or where there is nothing to lock */
export function explanationOf(
  container: Container,
  decision: Grant | Denial,
  config: string,
  proof: Config["identityProof"],
  protection: Protection | undefined,
  owner: { readonly name: string; readonly decision: Grant | Denial } | undefined,
  live: Live | null,
): Explanation {
  const { id, name, source, image, imageId, user, risks } = container;
  return {
    config,
    container: {
      id,
      name,
      source,
      image,
      imageId,
      user,
      composeProject: composeProject(container) ?? null,
      composeService: composeService(container) ?? null,
      networks: container.attachments.map(({ network, ipv4, ipv6 }) => ({
        network,
        ipv4: ipv4 ?? null,
        ipv6: ipv6 ?? null,
      })),
      risks,
    },
    identity: {
      proof,
      locked: protection?.locked ?? null,
      reason: protection?.locked === false ? protection.reason : null,
    },
    asks: { roles: requestedRoles(container), policies: requestedPolicies(container) },
    granted: decision.kind === "grant",
    source: decision.source ?? null,
    grant: decision.kind === "grant" ? grantOf(decision) : null,
    refusal:
      decision.kind === "denial"
        ? { code: decision.code, reason: decision.reason, hint: decision.hint }
        : null,
    networkOwner:
      container.networkOf === undefined
        ? null
        : {
            id: container.networkOf,
            name: owner?.name ?? null,
            roleArn: owner?.decision.kind === "grant" ? owner.decision.request.roleArn : null,
            code: owner?.decision.kind === "denial" ? owner.decision.code : null,
          },
    live,
  };
}

function grantOf({
  request,
  alias,
  rule,
  roleName,
  httpTokens,
  policySource,
  notes,
}: Grant): Explanation["grant"] {
  return {
    alias: alias ?? null,
    rule,
    roleName,
    roleArn: request.roleArn,
    sessionName: request.sessionName,
    durationSeconds: request.durationSeconds,
    httpTokens,
    policySource,
    policy: request.policy ?? null,
    policyArns: request.policyArns ?? [],
    tags: request.tags ?? {},
    sourceIdentity: request.sourceIdentity ?? null,
    externalId: request.externalId !== undefined,
    notes,
  };
}
