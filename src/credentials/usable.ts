import type { RoleRequest } from "../roles/grant.ts";
import { AssumeRoleError } from "./assume-role.ts";
import type { Credentials } from "./document.ts";

/** With less time left, a client cannot use them. STS's shortest session is 15 minutes. */
const minLifetimeMs = 10_000;
/** STS's longest session is 12 hours; 5 minutes allow for clocks that differ. */
const maxLifetimeMs = (12 * 60 + 5) * 60_000;

/**
 * Throws a temporary AssumeRoleError if credentials must not be served: they have expired on arrival, they
 * claim to live longer than any session (a client would keep them past their real expiration), or they belong
 * to another role or session than the requested one.
 */
export function mustBeUsable(
  credentials: Pick<Credentials, "lifetimeMs" | "assumedRoleArn">,
  request: Pick<RoleRequest, "roleArn" | "sessionName">,
): void {
  const problem =
    lifetimeProblem(credentials.lifetimeMs) ?? identityProblem(credentials.assumedRoleArn, request);
  if (problem !== undefined) throw new AssumeRoleError("temporary", "UnusableAnswer", problem, 200);
}

function lifetimeProblem(lifetimeMs: number): string | undefined {
  if (!Number.isFinite(lifetimeMs)) return "STS's credentials have no readable expiration";
  const seconds = Math.round(lifetimeMs / 1000);
  if (lifetimeMs <= 0) return `STS's credentials had expired ${-seconds} s before they arrived`;
  if (lifetimeMs < minLifetimeMs) return `STS's credentials expire ${seconds} s after they arrived`;
  if (lifetimeMs > maxLifetimeMs)
    return `STS's credentials expire in ${seconds} s, which is longer than any STS session`;
  return undefined;
}

/** `arn:aws:sts::123456789012:assumed-role/name/session` of `arn:aws:iam::123456789012:role/path/name`. */
function identityProblem(assumedRoleArn: string, request: Pick<RoleRequest, "roleArn" | "sessionName">) {
  const [, partition = "", , , account = "", resource = ""] = request.roleArn.split(":");
  const name = resource.slice(resource.lastIndexOf("/") + 1);
  const expected = `arn:${partition}:sts::${account}:assumed-role/${name}/`;
  const head = assumedRoleArn.slice(0, expected.length);
  // Role names are unique regardless of letter case. STS answers with the case in which the role was created.
  if (head.toLowerCase() !== expected.toLowerCase())
    return `STS's answer is for another role than ${request.roleArn}`;
  if (assumedRoleArn.slice(expected.length) !== request.sessionName)
    return `STS's answer for ${request.roleArn} is for another session than ${request.sessionName}`;
  return undefined;
}
