import t from "tap";
import { Directory } from "../../../src/containers/directory.ts";
import { refusedAnswer } from "../../../src/credentials/answer.ts";
import { AssumeRoleError } from "../../../src/credentials/assume-role.ts";
import { Callers } from "../../../src/imds/callers.ts";
import type { Exchange } from "../../../src/imds/exchange.ts";
import { sendCredentials } from "../../../src/imds/role-credentials.ts";
import { account } from "../../support/aws/account.ts";
import { ask, type RawAnswer } from "../../support/raw-http.ts";
import { admin, db, engineContainer, listPath, none, proxyFixture, roleArn, web } from "./fixture.ts";

const asked = (answer: RawAnswer) => Object.fromEntries(answer.headers);

const json = (answer: RawAnswer) => JSON.parse(answer.body) as Readonly<Record<string, string>>; // IMDS documents hold texts only

t.test("credentials are sent byte for byte as EC2 sends them", async (t) => {
  const proxy = await proxyFixture(t);
  const list = await proxy.get(web, listPath);
  t.same([list.status, list.body], [200, "Web"], "the role's name without path and newline");
  t.equal((await proxy.get(web, listPath.slice(0, -1))).body, "Web", "also without the slash at the end");

  const answer = await proxy.get(web, `${listPath}Web`);
  const { AccessKeyId, SecretAccessKey, Token, Expiration, LastUpdated } = json(answer);
  t.equal(
    answer.body,
    `{
  "Code" : "Success",
  "LastUpdated" : "${LastUpdated}",
  "Type" : "AWS-HMAC",
  "AccessKeyId" : "${AccessKeyId}",
  "SecretAccessKey" : "${SecretAccessKey}",
  "Token" : "${Token}",
  "Expiration" : "${Expiration}"
}`,
  );
  for (const time of [LastUpdated, Expiration]) t.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  t.match(AccessKeyId, /^ASIA/);
  const { Date: date, Connection: _, "Keep-Alive": __, ...headers } = asked(answer);
  t.match(date, / GMT$/);
  t.same(headers, {
    "Content-Type": "text/plain",
    "Content-Length": String(answer.body.length),
    "Accept-Ranges": "none",
    Server: "EC2ws",
    "X-Aws-Ec2-Metadata-Token-Ttl-Seconds": "21600",
  });
  t.equal((await proxy.get(web, `${listPath}Web/`)).status, 200, "a slash at the end is taken");

  const extendedList = "/latest/meta-data/iam/security-credentials-extended/";
  t.equal((await proxy.get(web, extendedList)).body, "Web");
  const extended = json(await proxy.get(web, `${extendedList}Web`));
  t.same(
    Object.keys(extended),
    ["Code", "LastUpdated", "Type", "AccessKeyId", "SecretAccessKey", "Token", "Expiration", "AccountId"],
    "extended credentials have the AccountId besides",
  );
  t.equal(extended.AccountId, account.id);

  const info = json(await proxy.get(web, "/latest/meta-data/iam/info"));
  t.same(
    [Object.keys(info), info.Code, info.InstanceProfileArn],
    [
      ["Code", "LastUpdated", "InstanceProfileArn", "InstanceProfileId"],
      "Success",
      roleArn("Web").replace(":role/", ":instance-profile/"),
    ],
    "iam/info names the container's role, not the host's",
  );
  t.match(info.InstanceProfileId, /^A[A-Z0-9]+$/);

  for (const version of ["1.0", "2016-09-02", "2021-03-23", "2024-04-11"])
    t.same(
      json(await proxy.get(web, `/${version}/meta-data/iam/security-credentials/Web`)).AccessKeyId,
      AccessKeyId,
      `the same below ${version}`,
    );
  t.equal(proxy.aws.sts.counts().total, 1, "STS was asked once for all of it");
  t.equal(proxy.grants.length, 1, "and one grant was recorded");
});

t.test("a container gets answers about its own role only", async (t) => {
  const proxy = await proxyFixture(t);
  await proxy.get(db, `${listPath}Database`);
  for (const role of ["Database", "web", "WEB", "Web2", "Admin", account.hostRole, "x".repeat(64)]) {
    const answer = await proxy.get(web, `${listPath}${role}`);
    t.equal(answer.status, 404, role);
    t.equal(answer.body.length, 339, "the page of EC2's 404");
    t.notMatch(answer.body, /ASIA/);
  }
  for (const path of [
    listPath,
    `${listPath}Web`,
    "/latest/meta-data/iam/security-credentials-extended/",
    "/latest/meta-data/iam/info",
    "/latest/meta-data/iam/",
  ])
    t.equal((await proxy.get(none, path)).status, 404, `a container without a role asks for ${path}`);
});

t.test(
  "credentials that were fetched for the container that had the address before are not sent",
  async (t) => {
    const former = engineContainer("dd", "127.0.0.22", { labels: { "ec2metaproxy.RoleAlias": "web" } });
    const next = engineContainer("ee", "127.0.0.22", { labels: { "ec2metaproxy.RoleAlias": "db" } });
    const proxy = await proxyFixture(t, {
      containers: [former],
      provenance: { check: async () => ({ proven: true }) },
      config: { httpTokens: "optional" },
    });
    proxy.aws.sts.faults.set({ latencyMs: 500 });
    const at = { port: proxy.port, from: "127.0.0.22" };
    const pending = ask(at, "GET", `${listPath}Web`);
    while (proxy.aws.sts.counts().inFlight === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    proxy.directory.remove("engine", former.id);
    proxy.directory.upsert("engine", next);
    const answer = await pending;
    t.same([answer.status, /ASIA|containers\/Web/.test(answer.body)], [503, false]);
    t.equal(proxy.lastRefusal()?.code, "caller-changed");
    t.equal((await ask(at, "GET", `${listPath}Web`)).status, 404, "the next owner has another role");
    t.match(json(await ask(at, "GET", `${listPath}Database`)).Code, "Success");
    const kept = proxy.grants.filter((grant) => grant.startsWith(former.name));
    t.same(kept, [], "nothing was granted to the one before");
  },
);

t.test("a cached answer is not sent if the address has moved since the caller was identified", async (t) => {
  const { policy } = await proxyFixture(t);
  const former = engineContainer("dd", "127.0.0.22", { labels: { "ec2metaproxy.RoleAlias": "web" } });
  const callers = new Callers(policy, undefined);
  const caller = callers.of(former);
  if (caller.decision.kind === "denial") throw new Error(caller.decision.reason);
  const refused: string[] = [];
  const directory = new Directory();
  directory.upsert("engine", engineContainer("ee", "127.0.0.22"));
  const denied = new AssumeRoleError("refused", "AccessDenied", "no", 403);
  const deps = {
    directory,
    callers,
    locks: undefined,
    now: () => 0,
    credentials: { get: () => refusedAnswer(denied, roleArn("Web"), 0) },
    granted: () => t.fail("nothing is granted"),
  };
  const exchange = {
    address: "127.0.0.22",
    refuse: (code: string) => void refused.push(code),
  } as unknown as Exchange; // all that a refusal uses
  const lookup = { kind: "container", container: former } as const;
  const identity = { ok: true, lookup, caller, proof: "socket" } as const;
  const unused = () => {
    throw new Error("no answer was needed");
  };
  await sendCredentials(deps, exchange, identity, caller.decision.request, {
    granted: unused,
    isGrant: true,
    refused: unused,
    unavailable: unused,
  });
  t.same(refused, ["caller-changed"]);
});

t.test("a reload with the same result does not disturb a client that waits for STS", async (t) => {
  const proxy = await proxyFixture(t, { config: { httpTokens: "optional" } });
  proxy.aws.sts.faults.set({ latencyMs: 500 });
  const pending = ask({ port: proxy.port, from: web.address }, "GET", `${listPath}Web`);
  while (proxy.aws.sts.counts().inFlight === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  proxy.callers.replace(proxy.policy, "i-0123456789abcdef0");
  const answer = await pending;
  t.same([answer.status, json(answer).Code], [200, "Success"]);
});

t.test(
  "a refusal by IAM is a 200 with Code and Message, an STS that does not answer a 503 with Retry-After",
  async (t) => {
    const proxy = await proxyFixture(t);
    const refused = await proxy.get(admin, `${listPath}Admin`);
    t.equal(refused.status, 200);
    t.match(json(refused), { Code: "AssumeRoleUnauthorizedAccess", Message: /Admin/, LastUpdated: /Z$/ });
    t.notMatch(refused.body, /AccessKeyId/);
    t.equal((await proxy.get(admin, listPath)).body, "Admin", "the list still names the role");
    t.equal((await proxy.get(admin, "/latest/meta-data/iam/info")).status, 404);

    proxy.aws.sts.faults.set({ status500: true });
    const down = await proxy.get(web, `${listPath}Web`);
    t.equal(down.status, 503);
    t.match(down.header("retry-after"), /^[1-9]\d*$/);
    t.match(json(down), { Code: "CredentialsUninitialized", Message: /Web/ });
    proxy.aws.sts.faults.set({ hang: true });
    const started = Date.now();
    t.equal((await proxy.get(db, `${listPath}Database`)).status, 503, "a hanging STS keeps nobody hanging");
    t.ok(Date.now() - started < 3_000);
    t.equal((await proxy.get(db, listPath)).status, 200, "the list needs no STS");
  },
);

for (const foreign of [
  "html-403",
  "empty-403",
  "json-403",
  "html-407",
  "moved-302",
  "login-200",
  "cut-403",
]) {
  t.test(
    `something in front of STS answers ${foreign}: clients get 503 with Retry-After, and soon their credentials`,
    async (t) => {
      const proxy = await proxyFixture(t);
      proxy.aws.sts.faults.set({ foreign });
      const { status, headers, body } = await proxy.get(web, `${listPath}Web`);
      t.equal(status, 503);
      t.match(new Headers(headers.map(([name, value]) => [name, value])).get("Retry-After"), /^[1-5]$/);
      t.match(body, /"Code" : "CredentialsUninitialized"/);
      t.notMatch(body, /html|Forbidden|Location/, "and nothing of what came");
      proxy.aws.sts.faults.set({});
      const over = performance.now();
      let served = await proxy.get(web, `${listPath}Web`);
      while (served.status !== 200 && performance.now() - over < 6_000)
        served = await proxy.get(web, `${listPath}Web`);
      t.equal(served.status, 200);
      t.ok(performance.now() - over < 5_000, `${Math.round(performance.now() - over)} ms`);
      t.equal((await proxy.get(db, `${listPath}Database`)).status, 200);
    },
  );
}
