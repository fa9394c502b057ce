import { account } from "./account.ts";
import type { AssumeRoleInput } from "./assume-role.ts";
import type { StsFaults } from "./faults.ts";
import type { Principal } from "./principals.ts";
import {
  accessDenied,
  durationOverChainingLimit,
  durationOverRoleMaximum,
  type StsError,
} from "./sts-errors.ts";

/** Settings of one role. */
export type RoleSettings = {
  /** 3600 to 43200; default 3600, as for a new role. */
  readonly maxSessionDurationSeconds?: number;
  /** The trust policy requires this external id. */
  readonly externalId?: string;
  /** The answer to every call for this role. */
  readonly error?: StsError;
};

/**
 * The roles, and who may assume them. Default: every role of the account, by the host, a user or another
 * session.
 */
export type TrustOptions = {
  /** Default: the account of `account.ts`. */
  readonly accounts?: readonly string[];
  /** By role ARN. */
  readonly roles?: Readonly<Record<string, RoleSettings>>;
  /** Role ARNs that nobody may assume; `*` matches any characters. */
  readonly deny?: readonly string[];
};

/** IAM's decision on a valid call: an error, or undefined if it is allowed. */
export function refusal(
  caller: Principal,
  input: AssumeRoleInput,
  trust: TrustOptions,
  faults: StsFaults,
): StsError | undefined {
  const role = trust.roles?.[input.roleArn] ?? {};
  const [, partition, , , accountId = ""] = input.roleArn.split(":");
  const denied = accessDenied(caller.arn, input.roleArn);
  if (role.error !== undefined) return role.error;
  if (faults.accessDenied || caller.kind === "instance" || caller.kind === "task") return denied;
  if (partition !== account.partition || !(trust.accounts ?? [account.id]).includes(accountId)) return denied;
  if ((trust.deny ?? []).some((glob) => globMatches(glob, input.roleArn))) return denied;
  if (role.externalId !== undefined && role.externalId !== input.externalId) return denied;

  const chained = caller.kind === "assumed-role" || (caller.kind === "host" && faults.chainingLimit);
  if (chained && input.durationSeconds > 3600) return durationOverChainingLimit;
  if (input.durationSeconds > (role.maxSessionDurationSeconds ?? 3600)) return durationOverRoleMaximum;
  return undefined;
}

function globMatches(glob: string, text: string): boolean {
  const pattern = glob.replace(/[^\w*]/g, "\\$&").replaceAll("*", ".*");
  return new RegExp(`^${pattern}$`, "s").test(text);
}
