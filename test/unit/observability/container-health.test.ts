import t from "tap";
import type { Container } from "../../../src/containers/container.ts";
import type { HeldCredentials } from "../../../src/credentials/held.ts";
import { noActivity, noteRefused, noteServed } from "../../../src/imds/activity.ts";
import {
  type ContainerFacts,
  graceMs,
  judgeContainer,
  type Verdict,
} from "../../../src/observability/container-health.ts";
import { decide, rolePolicy } from "../../../src/roles/grant.ts";
import { asks, configWith, containerWith } from "../roles/cases.ts";

const now = 10_000_000;
const plain = rolePolicy(configWith({}));

const held = (more: Partial<HeldCredentials> = {}): HeldCredentials => ({
  state: "valid",
  expiresAt: 0,
  remainingMs: 1_800_000,
  ageMs: 1_800_000,
  missingMs: 0,
  lastError: undefined,
  ...more,
});
const none = { expiresAt: undefined, remainingMs: undefined, ageMs: undefined };
const denied = {
  kind: "refused",
  code: "AccessDenied",
  message: "not authorized to perform sts:AssumeRole",
  failure: "trust-or-permission",
  cause: "IAM refuses",
  cure: "Correct the trust policy.",
  agoMs: 3_000,
} as const;
const silent = {
  ...denied,
  kind: "temporary",
  code: "Timeout",
  message: "STS has not answered",
  failure: "sts-timeout",
  cause: "STS is late",
} as const;

const facts = (container: Container, more: Partial<ContainerFacts> = {}, policy = plain): ContainerFacts => ({
  container,
  decision: decide(container, policy, undefined),
  activity: noActivity(),
  held: held(),
  protection: undefined,
  rivals: [],
  networkOwner: undefined,
  ...more,
});
const web = containerWith(asks("web"));
const byDefault = containerWith({});
const withDefault = rolePolicy(configWith({ defaultAlias: "web" }));
const noAddress = { attachments: [] };

/** It was refused so long ago, and not served since. */
function refused(agoMs: number, more: { path?: string; code?: "token-missing"; firstAgoMs?: number } = {}) {
  const activity = noActivity();
  const request = {
    status: 401,
    code: more.code ?? ("token-missing" as const),
    reason: "no session token",
    address: "172.17.0.2",
    caller: undefined,
    path: more.path ?? "/latest/meta-data/iam/security-credentials/",
  };
  noteRefused(activity, request, now - (more.firstAgoMs ?? agoMs));
  noteRefused(activity, request, now - agoMs);
  return activity;
}

type Row = {
  readonly what: string;
  readonly facts: ContainerFacts;
  readonly proof?: "socket" | "address";
  readonly kind: Verdict["kind"];
  readonly message?: RegExp;
};

const rows: readonly Row[] = [
  { what: "has valid credentials", facts: facts(web), kind: "served" },
  {
    what: "has valid credentials, whose renewal fails",
    facts: facts(web, { held: held({ lastError: silent }) }),
    kind: "served",
  },
  {
    what: "has asked for nothing, without prefetch",
    facts: facts(web, { held: undefined }),
    kind: "waiting",
    message: /when it asks/,
  },
  {
    what: "has waited for its first credentials for as long as a call may take",
    facts: facts(web, { held: held({ ...none, state: "missing", missingMs: graceMs, lastError: silent }) }),
    kind: "waiting",
    message: /being fetched/,
  },
  {
    what: "has waited for its first credentials for longer",
    facts: facts(web, {
      held: held({ ...none, state: "missing", missingMs: graceMs + 1, lastError: silent }),
    }),
    kind: "failing",
    message: /^has no credentials for arn:.*: STS is late \(Timeout: STS has not answered\)$/,
  },
  {
    what: "has credentials that have just expired",
    facts: facts(web, { held: held({ state: "missing", remainingMs: -1, missingMs: 1, lastError: silent }) }),
    kind: "failing",
    message: /^has no valid credentials for/,
  },
  {
    what: "has a role that IAM refuses, from the first moment on",
    facts: facts(web, { held: held({ ...none, state: "refused", missingMs: 1, lastError: denied }) }),
    kind: "failing",
    message: /: IAM refuses \(AccessDenied: not authorized/,
  },
  {
    what: "asked a moment ago, and was refused",
    facts: facts(web, { activity: refused(1_000) }),
    kind: "served",
  },
  {
    what: "asked, was refused, and has not been served since",
    facts: facts(web, { activity: refused(20_000) }),
    kind: "failing",
    message: /^asked for its role and was refused \(token-missing\): no session token$/,
  },
  {
    what: "goes on asking in vain",
    facts: facts(web, { activity: refused(100, { firstAgoMs: 60_000 }) }),
    kind: "failing",
  },
  {
    what: "was refused long ago, and has not asked since",
    facts: facts(web, { activity: refused(400_000) }),
    kind: "served",
  },
  {
    what: "was refused something else than its role",
    facts: facts(web, { activity: refused(20_000, { path: "/latest/user-data" }) }),
    kind: "served",
  },
  {
    what: "asks for an alias that does not exist",
    facts: facts(containerWith(asks("nope"))),
    kind: "failing",
    message: /^gets no role \(unknown-alias\)/,
  },
  { what: "asks for nothing, and there is no default", facts: facts(byDefault), kind: "no-role" },
  {
    what: "asks for nothing by its labels, but its SDK asks",
    facts: facts(byDefault, { activity: refused(20_000) }),
    kind: "no-role",
    message: /it has asked for one$/,
  },
  {
    what: "would get the default, which the policy withholds from privileged ones",
    facts: facts(
      containerWith({ risks: ["privileged"] }),
      {},
      rolePolicy(configWith({ defaultAlias: "web", refuse: ["privileged"] })),
    ),
    kind: "no-role",
  },
  {
    what: "asks for a role by itself, and is refused for its risk",
    facts: facts(
      containerWith({ ...asks("web"), risks: ["privileged"] }),
      {},
      rolePolicy(configWith({ refuse: ["privileged"] })),
    ),
    kind: "failing",
  },
  {
    what: "shares its address with another",
    facts: facts(web, { rivals: ["other"] }),
    kind: "failing",
    message: /^has the same address as other, so neither is served$/,
  },
  {
    what: "is not locked, under socket",
    facts: facts(web, { protection: { locked: false, reason: "no port" } }),
    kind: "served",
  },
  {
    what: "is not locked, under address",
    facts: facts(web, { protection: { locked: false, reason: "no port" } }),
    proof: "address",
    kind: "failing",
    message: /^is not locked and therefore refused: no port$/,
  },
  {
    what: "is just being locked, under address",
    facts: facts(web, { protection: { locked: false, reason: "the lock is being made", pending: true } }),
    proof: "address",
    kind: "waiting",
  },
  {
    what: "asks for a role on the host's network",
    facts: facts(containerWith({ ...asks("web"), ...noAddress, risks: ["host-network"] }), {
      held: undefined,
    }),
    kind: "failing",
    message: /^asks for the role web, but is on the host's network/,
  },
  {
    what: "is on the host's network and asks for nothing",
    facts: facts(containerWith({ ...noAddress, risks: ["host-network"] }), { held: undefined }, withDefault),
    kind: "no-role",
  },
  {
    what: "runs in the network of one that gets the same role",
    facts: facts(containerWith({ ...asks("web"), ...noAddress, networkOf: "a" }), {
      held: undefined,
      networkOwner: { name: "app", decision: decide(web, plain, undefined) },
    }),
    kind: "shared",
    message: /^runs in the network of app, and gets what that gets: the role web$/,
  },
  {
    what: "asks for a role, and runs in the network of one that gets none",
    facts: facts(containerWith({ ...asks("web"), ...noAddress, networkOf: "a" }), {
      held: undefined,
      networkOwner: { name: "app", decision: decide(byDefault, plain, undefined) },
    }),
    kind: "failing",
    message: /^asks for the role web, but runs in the network of app, .*: no role \(no-role-requested\)$/,
  },
];

for (const { what, facts: given, proof = "socket", kind, message = /^/ } of rows)
  t.test(`a container that ${what} is ${kind}`, (t) => {
    const verdict = judgeContainer(given, { identityProof: proof, now });
    t.equal(verdict.kind, kind);
    t.match(verdict.message, message);
    if (kind === "failing") t.not(verdict.message, "", "the cause is named");
    t.end();
  });

t.test("credentials end what was refused before, and a refusal of STS ends with its cause", (t) => {
  const activity = refused(20_000);
  noteServed(activity, now - 10);
  t.equal(judgeContainer(facts(web, { activity }), { identityProof: "socket", now }).kind, "served");
  const sts = noActivity();
  const path = "/latest/meta-data/iam/security-credentials/web";
  noteRefused(sts, { status: 200, code: "AccessDenied", reason: "no", path }, now - 20_000);
  t.equal(judgeContainer(facts(web, { activity: sts }), { identityProof: "socket", now }).kind, "served");
  t.end();
});
