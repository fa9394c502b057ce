import t from "tap";
import { decide } from "../../../src/roles/grant.ts";
import { rolePolicy } from "../../../src/roles/policy.ts";
import {
  account,
  asks,
  type Case,
  configWith,
  containerWith,
  narrow,
  roleAlias,
  testCases,
} from "./cases.ts";

const managed = "arn:aws:iam::123456789012:policy/p";

// biome-ignore format: a table
const risky: readonly Case[] = [
  { is: "a privileged container, not refused", container: { ...asks("web"), risks: ["privileged"] }, gets: "web" },
  { is: "a privileged container, refused", config: { refuse: ["privileged"] }, container: { ...asks("web"), risks: ["privileged"] }, gets: "refused-risk", says: "privileged" },
  { is: "another risk than the refused one", config: { refuse: ["host-pid"] }, container: { ...asks("web"), risks: ["net-admin"] }, gets: "web" },
  { is: "the engine's socket, refused, with no request", config: { refuse: ["docker-socket"], defaultAlias: "web" }, container: { risks: ["docker-socket"] }, gets: "refused-risk", says: "engine's socket" },
];

// A container with a risk in `refuse` gets no role, not even the default.
testCases(risky);

t.test("a grant carries every setting of its alias", (t) => {
  const config = configWith({
    sessionName: "global-{id}",
    httpTokens: "required",
    aliases: {
      full: {
        roleArn: `${account}/team/full`,
        durationSeconds: 7200,
        externalId: "ext-1",
        policy: narrow,
        policyArns: [managed],
        sessionName: "{alias}-{name}@{instanceId}",
        tags: { image: "{image}", project: "{composeProject}", __proto__x: "plain" },
        sourceIdentity: "{name}.{id}",
        httpTokens: "optional",
      },
    },
  });
  const container = containerWith({ ...asks("full"), image: "registry/app:1" });
  const decision = decide(container, rolePolicy(config), "i-1");
  t.same(decision, {
    kind: "grant",
    alias: "full",
    roleName: "full",
    source: `label ${roleAlias}`,
    policySource: "alias",
    rule: 'alias "full" (no allow: open to every container)',
    notes: [],
    httpTokens: "optional",
    request: {
      roleArn: `${account}/team/full`,
      sessionName: "full-web-1@i-1",
      durationSeconds: 7200,
      policy: narrow,
      policyArns: [managed],
      tags: { image: "registry/app:1", project: "", __proto__x: "plain" },
      externalId: "ext-1",
      sourceIdentity: "web-1.0123456789ab",
    },
  });
  t.end();
});

t.test("a grant without settings has the defaults and no empty AssumeRole inputs", (t) => {
  const decision = decide(containerWith(asks("web")), rolePolicy(configWith()), undefined);
  t.same(decision.kind === "grant" && decision.request, {
    roleArn: `${account}/web`,
    sessionName: "web-1-0123456789ab",
    durationSeconds: 3600,
  });
  t.equal(decision.kind === "grant" && decision.httpTokens, "required");
  t.end();
});

t.test("risks and ignored requests are in the notes", (t) => {
  const container = containerWith({
    ...asks("web"),
    env: { IAM_ROLE: "db" },
    risks: ["privileged", "docker-socket"],
  });
  const decision = decide(container, rolePolicy(configWith()), undefined);
  t.same(decision.kind === "grant" && decision.notes, [
    "privileged: it runs privileged, so it can become root on the host",
    "docker-socket: it has the engine's socket, so it can start and enter any container",
    'env IAM_ROLE requests "db"; label ec2metaproxy.RoleAlias takes precedence',
  ]);
  t.end();
});

t.test("the hint for an unknown alias suggests a similar one", (t) => {
  const decision = decide(containerWith(asks("wev")), rolePolicy(configWith()), undefined);
  t.match(decision.kind === "denial" && decision.hint, /Did you mean "web"\?/);
  t.end();
});

t.test("an unknown default alias refuses containers that request no role", (t) => {
  const decision = decide(containerWith(), rolePolicy({ ...configWith(), defaultAlias: "gone" }), undefined);
  t.match(decision, { kind: "denial", code: "unknown-default-alias", source: "defaultAlias" });
  t.end();
});
