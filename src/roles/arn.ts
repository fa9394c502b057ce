import { roleArnPattern } from "../config/values.ts";
import { glob } from "./glob.ts";

/** The parts of a role ARN: `arn:PARTITION:iam::ACCOUNT:role` + PATH + NAME. */
export type RoleArn = {
  readonly partition: string;
  /** 12 digits. */
  readonly account: string;
  /** `/` or `/a/b/`: starts and ends with a slash. */
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
 * Returns the same text for all ARNs that can only mean the same role: role names are unique in an account,
 * regardless of path and letter case (IAM User Guide, "IAM and AWS STS quotas", name requirements).
 */
export function roleIdentity(arn: RoleArn): string {
  return `${arn.partition}:${arn.account}:${arn.name.toLowerCase()}`;
}

/** A glob for role ARNs. */
export type RoleArnGlob = {
  readonly text: string;
  matches(arn: RoleArn): boolean;
};

/**
 * Matches part by part. On the whole text, the `*` of `arn:aws*:iam::111111111111:role/x` would also match
 * `arn:aws:iam::999999999999:role/y:iam::111111111111:role/x`, a role in another account: IAM allows colons
 * in a path.
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
