import { roleArnPattern } from "../config/values.ts";
import { glob } from "./glob.ts";

/** A role's ARN in its parts: `arn:PARTITION:iam::ACCOUNT:role` + PATH + NAME. */
export type RoleArn = {
  readonly partition: string;
  /** 12 digits. */
  readonly account: string;
  /** `/`, or `/a/b/`: begins and ends with a slash. */
  readonly path: string;
  readonly name: string;
};

export function parseRoleArn(value: string): RoleArn | undefined {
  if (!roleArnPattern.test(value)) return undefined;
  const [, partition = "", , , account = "", ...rest] = value.split(":");
  const resource = rest.join(":").slice("role".length);
  const nameAt = resource.lastIndexOf("/") + 1;
  return { partition, account, path: resource.slice(0, nameAt), name: resource.slice(nameAt) };
}

/**
 * The same text for ARNs that can only mean one role: IAM keeps a role's name unique in its account, whatever its path
 * and letter case (IAM User Guide, "IAM and AWS STS quotas", name requirements).
 */
export function roleIdentity(arn: RoleArn): string {
  return `${arn.partition}:${arn.account}:${arn.name.toLowerCase()}`;
}

/** A glob on role ARNs. */
export type RoleArnGlob = {
  readonly text: string;
  matches(arn: RoleArn): boolean;
};

/**
 * Matched part by part. On the whole text, the `*` of `arn:aws*:iam::111111111111:role/x` would also take
 * `arn:aws:iam::999999999999:role/y:iam::111111111111:role/x`, a role of another account: IAM allows colons in a path.
 */
export function roleArnGlob(text: string): RoleArnGlob {
  const [, partition = "", , , account = "", ...rest] = text.split(":");
  const partitions = glob(partition);
  const accounts = glob(account);
  const resources = glob(rest.join(":"));
  return {
    text,
    matches: (arn) =>
      partitions.matches(arn.partition) &&
      accounts.matches(arn.account) &&
      resources.matches(`role${arn.path}${arn.name}`),
  };
}
