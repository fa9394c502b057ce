import t from "tap";
import { parseRoleArn, roleArnGlob, roleIdentity } from "../../../src/roles/arn.ts";

for (const [text, partition, account, path, name] of [
  ["arn:aws:iam::123456789012:role/web", "aws", "123456789012", "/", "web"],
  ["arn:aws-cn:iam::123456789012:role/a/b/web", "aws-cn", "123456789012", "/a/b/", "web"],
  ["arn:aws-us-gov:iam::123456789012:role/x+=,.@-_", "aws-us-gov", "123456789012", "/", "x+=,.@-_"],
  ["arn:aws-iso-b:iam::000000000000:role/a:b/web", "aws-iso-b", "000000000000", "/a:b/", "web"],
  [
    "arn:aws-eusc:iam::123456789012:role/aws-service-role/x.amazonaws.com/Y",
    "aws-eusc",
    "123456789012",
    "/aws-service-role/x.amazonaws.com/",
    "Y",
  ],
] as const) {
  t.test(`${text} has a partition, an account, a path and a name`, (t) => {
    t.same(parseRoleArn(text), { partition, account, path, name });
    t.end();
  });
}

for (const text of [
  "",
  "web",
  "arn:",
  "arn:aws:iam::12345678901:role/web",
  "arn:aws:iam::1234567890123:role/web",
  "arn:aws:iam::123456789012:user/web",
  "arn:aws:iam::123456789012:role/",
  "arn:aws:iam::123456789012:role/web/",
  "arn:aws:iam::123456789012:role/we b",
  "arn:aws:iam::123456789012:role/web\n",
  " arn:aws:iam::123456789012:role/web",
  "arn:aws:iam:eu-west-1:123456789012:role/web",
  "arn:aws:sts::123456789012:assumed-role/web/x",
  "arn:AWS:iam::123456789012:role/web",
  "arn:gcp:iam::123456789012:role/web",
  "arn:aws:iam::123456789012:role/wéb",
  `arn:aws:iam::123456789012:role/${"x".repeat(65)}`,
  `arn:aws:iam::123456789012:role/${"p".repeat(511)}/web`,
  "arn:aws:iam::١٢٣٤٥٦٧٨٩٠١٢:role/web",
]) {
  t.test(`${JSON.stringify(text).slice(0, 80)} is not a role ARN`, (t) => {
    t.equal(parseRoleArn(text), undefined);
    t.end();
  });
}

t.test("ARNs that can only mean the same role have the same identity", (t) => {
  const identity = (text: string) => {
    const arn = parseRoleArn(text);
    return arn === undefined ? t.fail(text) : roleIdentity(arn);
  };
  const web = identity("arn:aws:iam::123456789012:role/web");
  t.equal(identity("arn:aws:iam::123456789012:role/path/WEB"), web);
  t.not(identity("arn:aws:iam::123456789012:role/web2"), web);
  t.not(identity("arn:aws:iam::123456789013:role/web"), web);
  t.not(identity("arn:aws-cn:iam::123456789012:role/web"), web);
  t.end();
});

for (const [pattern, text, expected] of [
  ["arn:aws:iam::123456789012:role/containers/*", "arn:aws:iam::123456789012:role/containers/web", true],
  ["arn:aws:iam::123456789012:role/containers/*", "arn:aws:iam::123456789012:role/containers/a/b", true],
  ["arn:aws:iam::123456789012:role/containers/*", "arn:aws:iam::123456789012:role/container/web", false],
  ["arn:aws:iam::123456789012:role/containers/*", "arn:aws:iam::999999999999:role/containers/web", false],
  ["arn:aws:iam::123456789012:role/web", "arn:aws-cn:iam::123456789012:role/web", false],
  ["arn:aws*:iam::123456789012:role/web", "arn:aws-cn:iam::123456789012:role/web", true],
  [
    "arn:aws*:iam::123456789012:role/web",
    "arn:aws:iam::999999999999:role/y:iam::123456789012:role/web",
    false,
  ],
  ["arn:aws:iam::12345678901*:role/web", "arn:aws:iam::123456789019:role/web", true],
  ["arn:aws:iam::12345678901*:role/web", "arn:aws:iam::123456789019:role/y:role/web", false],
  ["arn:aws:iam::*:role/web-?", "arn:aws:iam::999999999999:role/web-1", true],
  ["arn:aws:iam::123456789012:role/web", "arn:aws:iam::123456789012:role/Web", false],
  ["arn:aws:iam::123456789012:role/a:*", "arn:aws:iam::123456789012:role/a:b/web", true],
] as const) {
  t.test(`the glob ${pattern} ${expected ? "matches" : "does not match"} ${text}`, (t) => {
    const arn = parseRoleArn(text);
    t.ok(arn, text);
    if (arn !== undefined) t.equal(roleArnGlob(pattern).matches(arn), expected);
    t.end();
  });
}
