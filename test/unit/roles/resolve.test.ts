import { account, asks, type Case, testCases } from "./cases.ts";

// biome-ignore format: a table
const arns: readonly Case[] = [
  { is: "an ARN that nothing allows", container: asks(`${account}/other`), gets: "role-arn-not-allowed", says: "matches no glob in allowRoleArns" },
  { is: "an ARN that a glob allows", config: { allowRoleArns: [`${account}/containers/*`] }, container: asks(`${account}/containers/x`), gets: `${account}/containers/x`, says: "allowRoleArns" },
  { is: "an ARN in a deeper path that a glob allows", config: { allowRoleArns: [`${account}/containers/*`] }, container: asks(`${account}/containers/a/b/x`), gets: `${account}/containers/a/b/x` },
  { is: "a glob matches only its own path", config: { allowRoleArns: [`${account}/containers/*`] }, container: asks(`${account}/x`), gets: "role-arn-not-allowed" },
  { is: "a second glob", config: { allowRoleArns: [`${account}/a/*`, `${account}/b-?`] }, container: asks(`${account}/b-1`), gets: `${account}/b-1`, says: "b-?" },
  { is: "an account other than that of the glob", config: { allowRoleArns: [`${account}/*`] }, container: asks("arn:aws:iam::999999999999:role/x"), gets: "role-arn-not-allowed" },
  { is: "another account hidden in a path", config: { allowRoleArns: ["arn:aws*:iam::123456789012:role/x"] }, container: asks("arn:aws:iam::999999999999:role/y:iam::123456789012:role/x"), gets: "role-arn-not-allowed" },
  ...["aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f", "aws-eusc"].map((partition): Case => ({ is: `a role of partition ${partition}`, config: { allowRoleArns: [`arn:${partition}:iam::123456789012:role/*`] }, container: asks(`arn:${partition}:iam::123456789012:role/x`), gets: `arn:${partition}:iam::123456789012:role/x` })),
  { is: "an alias in China", config: { aliasToARN: { cn: "arn:aws-cn:iam::123456789012:role/web" } }, container: asks("cn"), gets: "cn" },
  { is: "a glob for aws does not allow aws-cn", config: { allowRoleArns: [`${account}/*`] }, container: asks("arn:aws-cn:iam::123456789012:role/x"), gets: "role-arn-not-allowed" },
  { is: "the ARN of an alias in another partition is another role", container: asks("arn:aws-cn:iam::123456789012:role/web"), gets: "role-arn-not-allowed", says: "not the role of an alias" },
  { is: "an alias's ARN in another letter case", config: { allowRoleArns: [`${account}/*`] }, container: asks(`${account}/OPS`), gets: "role-arn-not-allowed", says: "letter case" },
  { is: "an alias's role under another path", config: { allowRoleArns: [`${account}/*`] }, container: asks(`${account}/x/ops`), gets: "role-arn-not-allowed", says: "path" },
  { is: "an ARN does not bypass the allow of its alias", container: asks(`${account}/ops`), gets: "alias-not-allowed", says: "allow.images" },
  { is: "a glob does not bypass the allow of an alias", config: { allowRoleArns: [`${account}/*`] }, container: asks(`${account}/ops`), gets: "alias-not-allowed" },
  { is: "an ARN with the alias's image gets the alias", container: { ...asks(`${account}/ops`), image: "registry.example.com/ops/tool:1" }, gets: "ops", says: "registry.example.com/ops/*" },
  { is: "one of two aliases with one ARN admits it", config: { aliases: { one: { roleArn: `${account}/x`, allow: { users: ["1"] } }, two: { roleArn: `${account}/x`, allow: { users: ["2"] } } } }, container: { ...asks(`${account}/x`), user: "2" }, gets: "two" },
  { is: "both admit it: the first in the configuration", config: { aliases: { two: { roleArn: `${account}/x` }, one: { roleArn: `${account}/x` } } }, container: asks(`${account}/x`), gets: "two" },
  { is: "neither admits it", config: { aliases: { one: { roleArn: `${account}/x`, allow: { users: ["1"] } }, two: { roleArn: `${account}/x`, allow: { users: ["2"] } } } }, container: { ...asks(`${account}/x`), user: "3" }, gets: "alias-not-allowed", says: /alias "one" does not.*alias "two" does not/ },
  ...[["arn:", "not a role ARN"], ["arn:aws:iam::12345678901:role/x", "11 digits"], ["arn:aws:iam::123456789012:user/x", "does not start with role/"], ["arn:aws:s3:::bucket", "the service is"], ["arn:aws:iam::123456789012:role/x y", "characters that IAM does not allow"], ["arn:aws:iam::123456789012:role/x\u0000", "characters that IAM does not allow"], ["arn:aws:iam::123456789012:role/*", "characters that IAM does not allow"], ["arn:aws:sts::123456789012:assumed-role/x/y", "the service is"]].map(
    ([value = "", says = ""]): Case => ({
      is: `not a role ARN: ${JSON.stringify(value)}`,
      config: { allowRoleArns: ["arn:aws:iam::*:role/*"] },
      container: asks(value),
      gets: "invalid-role",
      says,
    }),
  ),
];

// An ARN is that of an alias, with its rules, or one that allowRoleArns matches.
testCases(arns);
