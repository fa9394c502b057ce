import t from "tap";
import { decide } from "../../../src/roles/grant.ts";
import { likelyMistakes } from "../../../src/roles/mistakes.ts";
import { rolePolicy } from "../../../src/roles/policy.ts";
import { hostileTexts, unsafe } from "../../support/hostile-texts.ts";
import { account, asks, configWith, containerWith, policyLabel, roleAlias } from "./cases.ts";

const policy = rolePolicy(
  configWith({ defaultAlias: "web", aliases: { Admin: { roleArn: `${account}/ops/Admins` } } }),
);
const labelled = (...keys: readonly string[]) => ({
  labels: Object.fromEntries(keys.map((key) => [key, "db"])),
});
const env = (IAM_ROLE: string) => ({ env: { IAM_ROLE } });

for (const [what, container, says] of [
  [
    "a key in lower case",
    labelled("ec2metaproxy.rolealias"),
    /"ec2metaproxy\.rolealias" is not read.*ec2metaproxy\.RoleAlias/,
  ],
  ["a key in upper case", labelled("EC2METAPROXY.ROLEALIAS"), /looks like ec2metaproxy\.RoleAlias/],
  ["other punctuation", labelled("ec2metaproxy/role-alias"), /looks like ec2metaproxy\.RoleAlias/],
  ["two letters swapped", labelled("ec2metaproxy.RoelAlias"), /looks like ec2metaproxy\.RoleAlias/],
  ["a letter missing", labelled("ec2metaprxy.RoleAlias"), /looks like ec2metaproxy\.RoleAlias/],
  ["only Role", labelled("ec2metaproxy.Role"), /looks like ec2metaproxy\.RoleAlias/],
  ["only Alias", labelled("ec2metaproxy.Alias"), /looks like ec2metaproxy\.RoleAlias/],
  ["no prefix", labelled("RoleAlias"), /looks like ec2metaproxy\.RoleAlias/],
  ["the variable as a label", labelled("IAM_ROLE"), /looks like ec2metaproxy\.RoleAlias/],
  ["the policy's key in lower case", labelled("ec2metaproxy.policy"), /looks like ec2metaproxy\.Policy/],
  [
    "the predecessor's key, misspelt",
    labelled("com.swipely.iam_docker.iam-profile"),
    /looks like com\.swipely\.iam-docker/,
  ],
  [
    "key: value as the key",
    labelled("ec2metaproxy.RoleAlias: db"),
    /contains the value too; write ec2metaproxy\.RoleAlias=db/,
  ],
  ["key=value as the key", labelled("ec2metaproxy.RoleAlias=db"), /contains the value too/],
  ["a quoted key", labelled('"ec2metaproxy.RoleAlias"'), /looks like ec2metaproxy\.RoleAlias/],
  ["kube2iam's annotation", labelled("iam.amazonaws.com/role"), /one of kube2iam and kiam/],
  ["EKS's annotation", labelled("eks.amazonaws.com/role-arn"), /one of EKS/],
  [
    "quotes from --env-file",
    env(`"${account}/web"`),
    /quotes around env IAM_ROLE are part of its value.*remove them/,
  ],
  ["single quotes", env("'web'"), /quotes/],
  ["a quote at one end", env('"web'), /quotes/],
  ["typographic quotes", env("\u201cweb\u201d"), /quotes/],
  ["a placeholder of a shell", env(`$${"{"}ROLE}`), /placeholder/],
  ["a placeholder of a template", asks("{{ role }}"), /placeholder/],
  ["a zero-width space", asks("we\u200bb"), /invisible/],
  ["a comma at the end", asks("web,"), /ends with ","/],
  ["a name before the value", asks("RoleAlias=db"), /write only "db"/],
  ["an ARN in upper case", env(`${account}/web`.toUpperCase()), /upper case/],
  ["an alias in other letter case", asks("admin"), /alias "Admin" in letter case only/],
  ["a role's name", asks("Admins"), /name of a role: write its alias, "Admin", or its ARN, .*Admins/],
  ["a role's path and name", asks("role/ops/admins"), /name of a role/],
  ["an instance profile", env("arn:aws:iam::123456789012:instance-profile/web"), /instance profile/],
  ["a session", env("arn:aws:sts::123456789012:assumed-role/web/i-0"), /of a session/],
  ["a policy's ARN", env("arn:aws:iam::123456789012:policy/web"), /of a policy, not of a role/],
  [
    "a quoted session policy",
    { labels: { [policyLabel]: `'{"Statement":[]}'` } },
    /quotes around label ec2metaproxy\.Policy/,
  ],
] as const)
  t.test(`${what} is said in the decision's words, and never acted upon`, async (t) => {
    const given = containerWith(container);
    const [mistake = ""] = likelyMistakes(given, policy);
    t.match(mistake, says);
    const decision = decide(given, policy, undefined);
    const said = decision.kind === "grant" ? decision.notes.join() : decision.reason;
    t.ok(said.includes(mistake), said);
    // What is not read leaves the default, and what is wrong is refused: nothing is guessed.
    if (decision.kind === "grant") t.match(decision, { alias: "web", source: "defaultAlias" });
  });

for (const [what, container] of [
  ["no labels", {}],
  ["a right label", asks("web")],
  ["a right ARN", env(`${account}/web`)],
  ["an alias that does not exist", asks("nobody")],
  [
    "labels of Compose and of the image",
    labelled("com.docker.compose.project", "org.opencontainers.image.title", "maintainer"),
  ],
  ["labels of ECS", labelled("com.amazonaws.ecs.cluster", "com.amazonaws.ecs.task-definition-family")],
  ["labels of its own, for allow rules", labelled("ec2metaproxy.tier", "role", "policy", "alias", "profile")],
] as const)
  t.test(`${what}: nothing is said`, async (t) => {
    t.same(likelyMistakes(containerWith(container), policy), []);
  });

for (const hostile of hostileTexts)
  t.test(`a label or value like ${hostile.replace(/[^ -~]/g, "?")} is escaped`, async (t) => {
    const labels = {
      [`ec2metaproxy.RoleAlias=${hostile}`]: "",
      [`ec2metaproxy.rolealias${hostile}`]: "",
      [roleAlias]: `"${hostile}"`,
    };
    for (const mistake of likelyMistakes(containerWith({ labels }), policy)) t.notMatch(mistake, unsafe);
  });

t.test("a container with ten thousand labels costs milliseconds, and three clauses", async (t) => {
  const keys = Array.from({ length: 10_000 }, (_, index) => `ec2metaproxy.RoleAlia${index}`);
  const started = performance.now();
  t.equal(likelyMistakes(containerWith(labelled(...keys, "x".repeat(100_000))), policy).length, 3);
  t.ok(performance.now() - started < 5_000);
});
