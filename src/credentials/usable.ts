import type { RoleRequest } from "../roles/grant.ts";
import { AssumeRoleError } from "./assume-role.ts";
import type { Credentials } from "./document.ts";

/** With less left than this a client could not use them. STS gives no session of less than 15 minutes. */
const shortestMs = 10_000;
/** STS's longest session is 12 hours; the rest is for clocks that do not quite agree. */
const longestMs = (12 * 60 + 5) * 60_000;

/**
 * Throws a temporary AssumeRoleError where credentials must not be handed out: they are dead on arrival, they claim to live longer than any
 * session does (a client would keep them past their real end), or they are another role's than the one that was asked for.
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
  if (lifetimeMs < shortestMs) return `STS's credentials expire ${seconds} s after they arrived`;
  if (lifetimeMs > longestMs)
    return `STS's credentials expire in ${seconds} s, and no session of STS lives so long`;
  return undefined;
}

/** `arn:aws:sts::123456789012:assumed-role/name/session` of `arn:aws:iam::123456789012:role/path/name`. */
function identityProblem(assumedRoleArn: string, request: Pick<RoleRequest, "roleArn" | "sessionName">) {
  const [, partition = "", , , account = "", resource = ""] = request.roleArn.split(":");
  const name = resource.slice(resource.lastIndexOf("/") + 1);
  const expected = `arn:${partition}:sts::${account}:assumed-role/${name}/`;
  const head = assumedRoleArn.slice(0, expected.length);
  // IAM lets no two roles of an account differ in letter case only, and answers with the case in which the role was made.
  if (head.toLowerCase() !== expected.toLowerCase())
    return `STS's answer is for another role than ${request.roleArn}`;
  if (assumedRoleArn.slice(expected.length) !== request.sessionName)
    return `STS's answer for ${request.roleArn} is for another session than ${request.sessionName}`;
  return undefined;
}
