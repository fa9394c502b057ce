import { addressesOf, type Container, isStarting } from "../containers/container.ts";
import type { Protection } from "../containers/protection.ts";
import { causeText } from "../credentials/diagnosis.ts";
import type { HeldCredentials } from "../credentials/held.ts";
import type { Activity } from "../imds/activity.ts";
import type { Denial, Grant } from "../roles/grant.ts";

/** What is known about one container. */
export type ContainerFacts = {
  readonly container: Container;
  readonly decision: Grant | Denial;
  readonly activity: Activity;
  /** Undefined if its credentials were not asked for yet. */
  readonly held: HeldCredentials | undefined;
  /** Undefined where there is nothing to lock. */
  readonly protection: Protection | undefined;
  /** Names of other running containers that have one of its addresses. */
  readonly rivals: readonly string[];
  /** The container in whose network it runs, if that is known. */
  readonly networkOwner: { readonly name: string; readonly decision: Grant | Denial } | undefined;
};

/** Whether a container gets what it should. Only `failing` is unhealthy. */
export type Verdict = {
  /**
   * - `served`: it has valid credentials, and its last request for them was not refused.
   * - `waiting`: it should have a role, and nothing is wrong so far.
   * - `no-role`: it should have none.
   * - `shared`: it gets what the container gets in whose network it runs.
   * - `failing`: it should have a role, and does not get it.
   */
  readonly kind: "served" | "waiting" | "no-role" | "shared" | "failing";
  /** Why; may contain what a container or AWS wrote. */
  readonly message: string;
  /** What to do; empty where there is nothing. */
  readonly hint: string;
  /** The part of the message that says why its role cannot be assumed. */
  readonly cause?: string;
};

/**
 * How long a container may be without credentials, or be refused, before that is a failure. A call to STS may
 * take this long (`callMs` in credentials/cache.ts), and an SDK asks again within it.
 */
export const graceMs = 10_000;
/** A refusal is about now for this long. SDKs that were refused ask again within it, if at all. */
export const recentMs = 300_000;

/** @param now by the clock of the facts, in milliseconds */
export function judgeContainer(
  facts: ContainerFacts,
  {
    identityProof,
    now,
  }: { readonly identityProof: "socket" | "address" | "token" | "off"; readonly now: number },
): Verdict {
  const { container, decision, protection, rivals, activity, held } = facts;
  if (decision.kind === "denial") return judgeDenial(decision, activity, now);
  if (addressesOf(container).length === 0) return judgeWithoutAddress(facts, decision);
  if (rivals.length > 0)
    return failing(
      `has the same address as ${rivals.join(", ")}, so neither is served`,
      "Stop one of them, or give them different addresses.",
    );
  if (identityProof === "address" && protection?.locked === false)
    return protection.pending === true || isStarting(container)
      ? waiting("the port lock is being made")
      : failing(
          `is not locked and therefore refused: ${protection.reason}`,
          "docs/firewall.md lists what the port lock needs.",
        );
  return judgeCredentials(held, decision) ?? judgeRequests(activity, now) ?? servedOrWaiting(held);
}

/** A default that the policy withholds is meant so. What a container asks for by itself is not. */
function judgeDenial({ source, code, reason, hint }: Denial, activity: Activity, now: number): Verdict {
  const isMeant =
    source === undefined ||
    code === "label-required" ||
    (source === "defaultAlias" && (code === "refused-risk" || code === "alias-not-allowed"));
  if (!isMeant) return failing(`gets no role (${code}): ${reason}`, hint);
  const asks = isRecent(activity, now) ? "; it has asked for one" : "";
  return { kind: "no-role", message: `${reason}${asks}`, hint };
}

function judgeWithoutAddress({ container, networkOwner }: ContainerFacts, decision: Grant): Verdict {
  const isExplicit = decision.source !== "defaultAlias";
  if (networkOwner !== undefined) {
    const { name, decision: owners } = networkOwner;
    const gets = owners.kind === "grant" ? `the role ${owners.roleName}` : `no role (${owners.code})`;
    const message = `runs in the network of ${name}, and gets what that gets: ${gets}`;
    if (!isExplicit || (owners.kind === "grant" && owners.request.roleArn === decision.request.roleArn))
      return { kind: "shared", message, hint: "" };
    return failing(
      `asks for the role ${decision.roleName}, but ${message}`,
      `Give ${name} the label instead, or run the container in a network of its own.`,
    );
  }
  if (container.networkOf !== undefined)
    return { kind: "shared", message: "runs in the network of a container that is not running", hint: "" };
  if (container.risks.includes("host-network")) {
    const message = "is on the host's network, so its requests never reach the proxy";
    return isExplicit
      ? failing(`asks for the role ${decision.roleName}, but ${message}`, "Run it in a bridge network.")
      : { kind: "no-role", message, hint: "" };
  }
  return waiting("has no address");
}

function judgeCredentials(held: HeldCredentials | undefined, { request }: Grant): Verdict | undefined {
  if (held === undefined || held.state === "valid") return undefined;
  const { lastError } = held;
  const issued = held.expiresAt !== undefined;
  if (held.state === "missing" && !issued && held.missingMs <= graceMs) return undefined;
  const why = lastError === undefined ? "STS has not answered yet" : causeText(lastError);
  return failing(
    `has no ${issued ? "valid " : ""}credentials for ${request.roleArn}: ${why}`,
    lastError?.cure ?? "",
    lastError?.cause,
  );
}

/** What it has asked for since it last got credentials, and did not get. */
function judgeRequests(activity: Activity, now: number): Verdict | undefined {
  const { unservedSince, lastRefusal } = activity;
  if (unservedSince === undefined || lastRefusal === undefined) return undefined;
  // A refusal of STS is over when there are credentials.
  if (/^[A-Z]/.test(lastRefusal.code)) return undefined;
  if (!isRecent(activity, now) || now - unservedSince <= graceMs) return undefined;
  return failing(
    `asked for its role and was refused (${lastRefusal.code}): ${lastRefusal.reason}`,
    "`man 7 ec2metaproxy-refusals` explains the code.",
  );
}

function isRecent({ lastRefusal, unservedSince }: Activity, now: number): boolean {
  return unservedSince !== undefined && lastRefusal !== undefined && now - lastRefusal.at < recentMs;
}

function servedOrWaiting(held: HeldCredentials | undefined): Verdict {
  if (held?.state === "valid") return { kind: "served", message: "", hint: "" };
  return waiting(
    held === undefined ? "its credentials are fetched when it asks" : "its credentials are being fetched",
  );
}

function waiting(message: string): Verdict {
  return { kind: "waiting", message, hint: "" };
}

function failing(message: string, hint: string, cause?: string): Verdict {
  return { kind: "failing", message, hint, ...(cause !== undefined && { cause }) };
}
