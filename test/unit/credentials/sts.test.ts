import { once } from "node:events";
import http from "node:http";
import t, { type Test } from "tap";
import { AssumeRoleError, keyOf } from "../../../src/credentials/assume-role.ts";
import { CredentialCache } from "../../../src/credentials/cache.ts";
import { openSts, type StsSettings } from "../../../src/credentials/sts.ts";
import { OperatorError } from "../../../src/errors.ts";
import { MetadataClient } from "../../../src/metadata/client.ts";
import {
  account,
  instance,
  issuedSecretMarker,
  issuedTokenMarker,
  leakMarker,
} from "../../support/aws/account.ts";
import { type Aws, type AwsOptions, startAws } from "../../support/aws/aws.ts";
import type { StsFaults } from "../../support/aws/faults.ts";
import { keptLog, type Line, roleRequest } from "./fixture.ts";

/** The real SDK against the stand-in; on EC2 as it were, unless the settings say otherwise. */
async function given(t: Test, settings: Partial<StsSettings> = {}, awsOptions: AwsOptions = {}) {
  const aws = await startAws(awsOptions);
  const { log, lines, all } = keptLog();
  t.teardown(async () => {
    await aws.stop();
    mustHoldNoSecret(aws, all);
  });
  const metadata = new MetadataClient({ endpoint: aws.imds.url, now: Date.now });
  t.teardown(() => metadata.close());
  const sts = openSts({
    metadata,
    region: undefined,
    endpoint: aws.sts.url,
    hostKeys: undefined,
    assumeFirst: undefined,
    useFips: false,
    useDualstack: false,
    proxyEnvironment: {},
    log,
    now: Date.now,
    wallNow: Date.now,
    ...settings,
  });
  t.teardown(() => sts.close());
  const end = new AbortController();
  const assume = (role: string, more = {}) => sts.assumeRole(roleRequest(role, "web-1", more), end.signal);
  return { aws, sts, lines, all, assume, end };
}

/** Throws, so that it can be done in a teardown: it fails the test there. */
function mustHoldNoSecret(aws: Aws, lines: readonly Line[]): void {
  const said = JSON.stringify(lines);
  const secrets = aws
    .secrets()
    .flatMap(({ secretAccessKey, sessionToken }) => [secretAccessKey, sessionToken]);
  if (secrets.some((secret) => secret !== "" && said.includes(secret)))
    throw new Error(`a secret in the log: ${said}`);
}

async function failureOf(promise: Promise<unknown>): Promise<AssumeRoleError> {
  const error: unknown = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof AssumeRoleError) return error;
  throw new Error(`expected an AssumeRoleError, got ${String(error)}`);
}

t.test(
  "a role is assumed with the instance's credentials, in the instance's region, with every input",
  async (t) => {
    const { aws, sts, assume } = await given(t);
    const policy =
      '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:Get*","Resource":"*"}]}';
    const credentials = await assume("db", {
      policy,
      policyArns: ["arn:aws:iam::aws:policy/ReadOnlyAccess"],
      tags: { image: "nginx" },
      externalId: "ext-1",
      sourceIdentity: "host-1",
      durationSeconds: 900,
    });
    t.match(credentials, {
      accountId: account.id,
      assumedRoleArn: `arn:aws:sts::${account.id}:assumed-role/db/web-1`,
      assumedRoleId: /^AROA.*:web-1$/,
    });
    t.ok(Math.abs(credentials.lifetimeMs - 900_000) < 3_000);
    const params = aws.sts.calls.list()[0]?.params;
    t.match(params, {
      RoleSessionName: "web-1",
      DurationSeconds: "900",
      Policy: policy,
      "PolicyArns.member.1.arn": "arn:aws:iam::aws:policy/ReadOnlyAccess",
      "Tags.member.1.Key": "image",
      "Tags.member.1.Value": "nginx",
      ExternalId: "ext-1",
      SourceIdentity: "host-1",
    });
    t.match(sts.identity(), { source: "instance profile", region: account.region });
  },
);

t.test(
  "the metadata service is asked by IMDSv2 at the configured address, whatever the environment says",
  async (t) => {
    const names = [
      "AWS_EC2_METADATA_SERVICE_ENDPOINT",
      "AWS_CONTAINER_CREDENTIALS_FULL_URI",
      "AWS_PROFILE",
      "HTTP_PROXY",
    ];
    const before = names.map((name) => process.env[name]);
    t.teardown(() => {
      for (const [index, name] of names.entries()) {
        if (before[index] === undefined) delete process.env[name];
        else process.env[name] = before[index];
      }
    });
    // Nothing listens there: whoever follows one of these fails.
    for (const name of names) process.env[name] = "http://127.0.0.1:9";
    const { aws, assume } = await given(t);
    t.match(await assume("db"), { accountId: account.id });
    const asked = aws.imds.requests.list();
    t.equal(asked[0]?.method, "PUT");
    t.ok(asked.length >= 4);
  },
);

t.test(
  "the host knows who it is, without a permission, and assumes roles over the same connection",
  async (t) => {
    const { aws, sts, assume, end } = await given(t);
    t.equal(
      await sts.callerArn(end.signal),
      `arn:aws:sts::${account.id}:assumed-role/${account.hostRole}/${instance.id}`,
    );
    await assume("db");
    t.same(
      aws.sts.calls.list().map((call) => call.action),
      ["GetCallerIdentity", "AssumeRole"],
    );
    aws.sts.faults.set({ status500: true });
    t.match(await failureOf(sts.callerArn(end.signal)), { kind: "temporary", code: "InternalFailure" });
  },
);

t.test("outside EC2 the keys of the environment sign, and the metadata service is not asked", async (t) => {
  const outside = await startAws();
  t.teardown(() => outside.stop());
  const { accessKeyId, secretAccessKey } = outside.addUser("developer");
  const { aws, sts } = await given(t, {
    hostKeys: { accessKeyId, secretAccessKey },
    endpoint: outside.sts.url,
    region: "eu-west-1",
  });
  t.match(await sts.assumeRole(roleRequest("db"), AbortSignal.timeout(5_000)), { accountId: account.id });
  t.equal(aws.imds.requests.total, 0);
  t.match(sts.identity(), { source: "environment", accessKeyId });
});

const failures: readonly {
  readonly faults: Partial<StsFaults>;
  readonly kind: AssumeRoleError["kind"];
  readonly code: string | RegExp;
}[] = [
  { faults: { accessDenied: true }, kind: "refused", code: "AccessDenied" },
  { faults: { regionDisabled: true }, kind: "refused", code: "RegionDisabledException" },
  { faults: { throttle: true }, kind: "throttled", code: "Throttling" },
  { faults: { status500: true }, kind: "temporary", code: "InternalFailure" },
  { faults: { expiredHostToken: true }, kind: "temporary", code: "ExpiredToken" },
  { faults: { malformedXml: true }, kind: "temporary", code: "UnusableAnswer" },
  { faults: { dropConnection: true }, kind: "temporary", code: "ECONNRESET" },
  { faults: { hang: true }, kind: "temporary", code: "Timeout" },
];
for (const { faults, kind, code } of failures) {
  t.test(`${Object.keys(faults)[0]} is ${kind}, without a secret in the error`, async (t) => {
    const { aws, assume } = await given(t, { timeouts: { requestMs: 300, deadlineMs: 2_000 } });
    aws.sts.faults.set(faults);
    const error = await failureOf(assume("db"));
    t.match(error, { kind, code });
    t.notMatch(
      `${error.stack} ${JSON.stringify(error)}`,
      new RegExp(`${leakMarker}|${issuedSecretMarker}|${issuedTokenMarker}`),
    );
    t.equal(error.cause, undefined);
  });
}

t.test("a malformed policy is a refusal that says what is wrong with it", async (t) => {
  const { assume } = await given(t);
  const error = await failureOf(assume("db", { policy: "{" }));
  t.match(error, { kind: "refused", code: "MalformedPolicyDocument" });
});

for (const { name, endpoint } of [
  { name: "nothing listens", endpoint: "http://127.0.0.1:9" },
  { name: "nothing listens on IPv6", endpoint: "http://[::1]:9" },
]) {
  t.test(
    `without a metadata service (${name}) there is no credential, and the reason names the address`,
    async (t) => {
      const metadata = new MetadataClient({ endpoint, now: Date.now });
      t.teardown(() => metadata.close());
      const { assume } = await given(t, { metadata });
      const error = await failureOf(assume("db"));
      t.match(error, { kind: "temporary", code: "HostCredentialsUnavailable" });
      t.ok(error.message.includes(endpoint));
    },
  );
}

t.test("an instance without a role, or a service that is turned off, is said in words", async (t) => {
  const { aws, assume } = await given(t, { timeouts: { metadataMs: 300 } });
  aws.imds.setFaults({ noRole: true });
  t.match(await failureOf(assume("db")), {
    code: "HostCredentialsUnavailable",
    message: /404|no instance profile/,
  });
  aws.imds.setFaults({ status: 403 });
  t.match(await failureOf(assume("db")), { code: "HostCredentialsUnavailable", message: /403/ });
  aws.imds.setFaults({ hang: true });
  t.match(await failureOf(assume("db")), { code: "HostCredentialsUnavailable" });
  aws.imds.setFaults({});
  t.match(await assume("db"), { accountId: account.id });
});

t.test("host credentials that were replaced on the instance are noticed at the next refusal", async (t) => {
  let ahead = 0;
  const { aws, sts, assume } = await given(t, { now: () => Date.now() + ahead });
  await assume("db");
  const before = sts.identity().accessKeyId;
  // STS stops accepting the old keys when they expire: what IMDS holds now is new.
  aws.imds.credentials.rotate(3_000);
  ahead = 6 * 3600_000;
  await assume("db");
  const expired = sts.identity().accessKeyId;
  t.not(expired, before, "near their end they are read again");
  await new Promise((resolve) => setTimeout(resolve, 3_100));
  ahead += 10_000;
  aws.imds.credentials.rotate();
  await assume("db");
  t.not(sts.identity().accessKeyId, expired);
});

t.test("keys that STS calls expired are read again and the call is made once more", async (t) => {
  let ahead = 0;
  const { aws, sts, assume } = await given(t, { now: () => Date.now() + ahead });
  await assume("db");
  const before = sts.identity().accessKeyId;
  aws.imds.credentials.rotate();
  ahead = 10_000;
  const calls = aws.sts.counts().total;
  aws.sts.faults.setFor(roleRequest("db").roleArn, { expiredHostToken: true });
  t.match(await failureOf(assume("db")), { kind: "temporary", code: "ExpiredToken" });
  t.equal(aws.sts.counts().total - calls, 2, "twice, not more");
  t.not(sts.identity().accessKeyId, before);
});

t.test(
  "an instance that got another profile: AccessDenied makes the host look at its own role again",
  async (t) => {
    let ahead = 0;
    const { aws, assume } = await given(t, { now: () => Date.now() + ahead });
    await assume("db");
    aws.imds.credentials.rotate();
    ahead = 10_000;
    aws.sts.faults.set({ accessDenied: true });
    const calls = aws.sts.counts().total;
    await failureOf(assume("db"));
    t.equal(aws.sts.counts().total - calls, 2);
    await failureOf(assume("db"));
    t.equal(aws.sts.counts().total - calls, 3, "with the same keys there is no second try");
  },
);

t.test(
  "more than an hour for a chained role: asked once more with one hour, remembered, said once",
  async (t) => {
    const { aws, lines, assume } = await given(t);
    aws.sts.faults.set({ chainingLimit: true });
    const first = await assume("db", { durationSeconds: 7_200 });
    t.ok(first.lifetimeMs <= 3_600_000);
    t.equal(aws.sts.counts().total, 2);
    await assume("db", { durationSeconds: 7_200 });
    t.equal(aws.sts.counts().total, 3);
    t.equal(lines.length, 1);
  },
);

t.test("what lives longer than was asked for ends when it was asked to, for the client too", async (t) => {
  const { aws, assume } = await given(t);
  aws.sts.faults.set({ expiration: "+7200" });
  const { lifetimeMs, expiresAt } = await assume("db", { durationSeconds: 900 });
  t.equal(lifetimeMs, 900_000);
  t.ok(Math.abs(expiresAt - Date.now() - 900_000) < 5_000, `${new Date(expiresAt).toISOString()}`);
});

t.test(
  "a clock that is wrong by more than five minutes is corrected for, warned of once, and lifetimes stay true",
  async (t) => {
    const { aws, lines, sts, assume } = await given(t);
    for (const skew of [900, -7_200]) {
      aws.sts.faults.set({ clockSkewSeconds: skew });
      const credentials = await assume("db");
      t.ok(
        Math.abs(credentials.lifetimeMs - 3_600_000) < 3_000,
        `an hour, though the clock is off by ${skew} s`,
      );
      t.ok(Math.abs(sts.identity().clockOffsetMs - skew * 1000) < 3_000);
    }
    t.equal(lines.length, 1);
    t.match(lines[0], { level: "warn", fields: { stsAheadSeconds: Number } });
    aws.sts.faults.set({});
    await assume("db");
    t.match(lines[1], { level: "info" });
  },
);

t.test("two hops: the first role is assumed once for all, and signs for the others", async (t) => {
  const assumeFirst = `arn:aws:iam::${account.id}:role/hop`;
  const { aws, assume } = await given(t, { assumeFirst });
  await Promise.all(["a", "b", "c"].map((role) => assume(role)));
  const roles = aws.sts.calls.list().map((call) => call.roleArn);
  t.equal(roles.filter((role) => role === assumeFirst).length, 1);
  t.equal(roles[0], assumeFirst);
  t.equal(roles.length, 4);
});

t.test("a refused first hop is the host's trouble, not a refusal of the container's role", async (t) => {
  const assumeFirst = `arn:aws:iam::${account.id}:role/hop`;
  const { aws, assume } = await given(t, { assumeFirst });
  aws.sts.faults.setFor(assumeFirst, { accessDenied: true });
  t.match(await failureOf(assume("db")), {
    kind: "temporary",
    code: "AssumeFirstRefused",
    message: /sts\.assumeFirst/,
  });
  aws.sts.faults.setFor(assumeFirst, {});
  t.match(await assume("db"), { accountId: account.id });
});

t.test("STS goes through the proxy of the environment, the metadata service never does", async (t) => {
  const targets: string[] = [];
  const proxy = http.createServer((req, res) => {
    targets.push(`${req.method} ${req.url}`);
    res.writeHead(502).end();
  });
  proxy.on("connect", (req, socket) => {
    targets.push(`CONNECT ${req.url}`);
    socket.end("HTTP/1.1 502 Bad Gateway\r\n\r\n");
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  t.teardown(() => proxy.close());
  const bound = proxy.address();
  const url = `http://127.0.0.1:${typeof bound === "object" ? bound?.port : ""}`;
  const { aws, assume } = await given(t, {
    proxyEnvironment: { HTTPS_PROXY: url, HTTP_PROXY: url },
    endpoint: undefined,
    region: "cn-north-1",
  });
  t.match(await failureOf(assume("db")), { kind: "temporary", httpStatus: 502, message: /502/ });
  t.same(targets, ["CONNECT sts.cn-north-1.amazonaws.com.cn:443"]);
  t.ok(aws.imds.requests.total >= 3);
});

for (const { region, useFips, useDualstack, host } of [
  { region: "eu-west-1", useFips: false, useDualstack: false, host: "sts.eu-west-1.amazonaws.com" },
  { region: "us-east-1", useFips: true, useDualstack: false, host: "sts-fips.us-east-1.amazonaws.com" },
  { region: "eu-west-1", useFips: false, useDualstack: true, host: "sts.eu-west-1.api.aws" },
  { region: "us-gov-west-1", useFips: true, useDualstack: false, host: "sts.us-gov-west-1.amazonaws.com" },
  { region: "us-iso-east-1", useFips: false, useDualstack: false, host: "sts.us-iso-east-1.c2s.ic.gov" },
  { region: "us-isob-east-1", useFips: false, useDualstack: false, host: "sts.us-isob-east-1.sc2s.sgov.gov" },
  { region: "eusc-de-east-1", useFips: false, useDualstack: false, host: "sts.eusc-de-east-1.amazonaws.eu" },
]) {
  t.test(`STS of ${region} (FIPS ${useFips}, dual-stack ${useDualstack}) is ${host}`, async (t) => {
    const targets: string[] = [];
    const proxy = http.createServer();
    proxy.on("connect", (req, socket) => {
      targets.push(req.url ?? "");
      socket.end("HTTP/1.1 502 Bad Gateway\r\n\r\n");
    });
    proxy.listen(0, "127.0.0.1");
    await once(proxy, "listening");
    t.teardown(() => proxy.close());
    const bound = proxy.address();
    const HTTPS_PROXY = `http://127.0.0.1:${typeof bound === "object" ? bound?.port : ""}`;
    const { assume } = await given(t, {
      proxyEnvironment: { HTTPS_PROXY },
      endpoint: undefined,
      region,
      useFips,
      useDualstack,
    });
    await failureOf(assume("db"));
    t.same(targets, [`${host}:443`]);
  });
}

t.test("FIPS or dual-stack together with an own endpoint is the operator's mistake", async (t) => {
  await t.rejects(given(t, { useFips: true }), OperatorError);
});

t.test("given up by the caller, a call ends at once", async (t) => {
  const { aws, assume, end } = await given(t);
  aws.sts.faults.set({ hang: true });
  setTimeout(() => end.abort(), 50);
  t.match(await failureOf(assume("db")), { code: "Timeout" });
});

t.test("with the cache: 200 ask at once, one call; one role hangs, the others are served", async (t) => {
  const { aws, sts } = await given(t);
  const { log, all } = keptLog();
  const cache = new CredentialCache({
    assumeRole: sts.assumeRole,
    now: Date.now,
    wallNow: Date.now,
    random: Math.random,
    schedule: (delayMs, run) => {
      const timer = setTimeout(run, delayMs);
      return () => clearTimeout(timer);
    },
    log,
  });
  t.teardown(() => cache.close());
  const ask = (holder: string, role: string) =>
    cache.get(holder, keyOf(roleRequest(role)), roleRequest(role), 5_000);
  const answers = await Promise.all(Array.from({ length: 200 }, (_, index) => ask(`c${index}`, "db")));
  t.ok(answers.every((answer) => answer.kind === "credentials"));
  t.equal(aws.sts.counts().total, 1);

  aws.sts.faults.setFor(roleRequest("hangs").roleArn, { hang: true });
  const hanging = ask("h", "hangs");
  const started = performance.now();
  t.match(await ask("c", "other"), { kind: "credentials" });
  t.comment(`another role's first answer while one hangs: ${(performance.now() - started).toFixed(1)} ms`);
  cache.release("h");
  t.match(await hanging, { kind: "unavailable" });
  mustHoldNoSecret(aws, all);
});
