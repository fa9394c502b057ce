import { account, asks, type Case, narrow, policyLabel, roleAlias, testCases, wide } from "./cases.ts";

const own = (policy: string, alias = "web") => ({ labels: { [roleAlias]: alias, [policyLabel]: policy } });
const capped = (settings: object) => ({ aliases: { c: { roleArn: `${account}/c`, ...settings } } });
const managed = "arn:aws:iam::123456789012:policy/p";
// biome-ignore format: a table
const policies: readonly Case[] = [
  { is: "no policy anywhere", container: asks("web"), gets: "web", policy: ["none"] },
  { is: "label Policy", container: own(narrow), gets: "web", policy: [`label ${policyLabel}`, narrow] },
  { is: "IAM_POLICY", container: { ...asks("web"), env: { IAM_POLICY: narrow } }, gets: "web", policy: ["env IAM_POLICY", narrow] },
  { is: "label Policy takes precedence over IAM_POLICY", container: { ...own(narrow), env: { IAM_POLICY: wide } }, gets: "web", policy: [`label ${policyLabel}`, narrow] },
  { is: "an empty label Policy sets none", container: { ...own(" "), env: { IAM_POLICY: wide } }, gets: "web", policy: ["env IAM_POLICY", wide] },
  { is: "defaultPolicy for a container that sets none", config: { defaultPolicy: narrow }, container: asks("web"), gets: "web", policy: ["defaultPolicy", narrow] },
  { is: "defaultPolicy is a default, not a ceiling", config: { defaultPolicy: narrow }, container: own(wide), gets: "web", policy: [`label ${policyLabel}`, wide] },
  { is: "defaultPolicy for an ARN that allowRoleArns matches", config: { defaultPolicy: narrow, allowRoleArns: [`${account}/*`] }, container: asks(`${account}/x`), gets: `${account}/x`, policy: ["defaultPolicy", narrow] },
  { is: "an alias's policy", config: capped({ policy: narrow }), container: asks("c"), gets: "c", policy: ["alias", narrow] },
  { is: "an alias's policy as an object", config: capped({ policy: JSON.parse(narrow) }), container: asks("c"), gets: "c", policy: ["alias", narrow] },
  { is: "an alias's policy takes precedence over defaultPolicy", config: { ...capped({ policy: narrow }), defaultPolicy: wide }, container: asks("c"), gets: "c", policy: ["alias", narrow] },
  { is: "a container's policy beside an alias's", config: capped({ policy: narrow }), container: own(wide, "c"), gets: "container-policy-not-allowed", says: `label ${policyLabel}` },
  { is: "IAM_POLICY beside an alias's", config: capped({ policy: narrow }), container: { ...asks("c"), env: { IAM_POLICY: wide } }, gets: "container-policy-not-allowed", says: "env IAM_POLICY" },
  { is: "a container's policy beside policyArns would widen them", config: capped({ policyArns: [managed] }), container: own(wide, "c"), gets: "container-policy-not-allowed" },
  { is: "defaultPolicy beside policyArns would widen them too", config: { ...capped({ policyArns: [managed] }), defaultPolicy: wide }, container: asks("c"), gets: "c", policy: ["none"] },
  { is: "an empty policyArns is no ceiling", config: { ...capped({ policyArns: [] }), defaultPolicy: narrow }, container: asks("c"), gets: "c", policy: ["defaultPolicy", narrow] },
  { is: "containerPolicy lets the container replace it", config: capped({ policy: narrow, containerPolicy: true }), container: own(wide, "c"), gets: "c", policy: [`label ${policyLabel}`, wide] },
  { is: "containerPolicy and a container that sets none", config: capped({ policy: narrow, containerPolicy: true }), container: asks("c"), gets: "c", policy: ["alias", narrow] },
  { is: "an ARN does not bypass an alias's policy", config: capped({ policy: narrow }), container: own(wide, `${account}/c`), gets: "container-policy-not-allowed" },
  { is: "a default alias's policy", config: { ...capped({ policy: narrow }), defaultAlias: "c" }, container: { labels: { [policyLabel]: wide } }, gets: "container-policy-not-allowed", by: "defaultAlias" },
  { is: "a policy that is not JSON", container: own("{'Statement': []}"), gets: "invalid-policy", says: "expected a policy as JSON" },
  { is: "a policy that is a list", container: own("[]"), gets: "invalid-policy", says: "a JSON object" },
  { is: "a policy without a Statement", container: own('{"Version":"2012-10-17"}'), gets: "invalid-policy", says: "no Statement" },
  { is: "a policy of 2048 characters", container: own(narrow.padEnd(2047, " ").replace("[]", "[]")), gets: "web" },
  { is: "a policy of 2049 characters", container: own(narrow.replace("[]", `[${" ".repeat(2049 - narrow.length)}]`)), gets: "invalid-policy", says: "2049" },
  { is: "a policy in characters that STS does not accept", container: own('{"Statement":[{"Sid":"東"}]}'), gets: "invalid-policy", says: "Latin-1" },
  { is: "a policy with control characters", container: own("\u001b]0;x\u0007{"), gets: "invalid-policy" },
  { is: "a policy of a hundred thousand brackets", container: own("[".repeat(100_000)), gets: "invalid-policy" },
];

// The policy of an alias is a ceiling, defaultPolicy is a default, and a container's own policy is validated.
testCases(policies);
