import t from "tap";
import { type AssumeRoleError, keyOf } from "../../../src/credentials/assume-role.ts";
import { OperatorError } from "../../../src/errors.ts";
import { MetadataClient } from "../../../src/metadata/client.ts";
import {
  account,
  instance,
  issuedSecretMarker,
  issuedTokenMarker,
  leakMarker,
} from "../../support/aws/account.ts";
import { startAws } from "../../support/aws/aws.ts";
import type { StsFaults } from "../../support/aws/faults.ts";
import { assumeRoleError, mustHoldNoSecret, realCache, realSts, roleRequest, sleep } from "./fixture.ts";

t.test(
  "a role is assumed with the instance's credentials, in the instance's region, with every input",
  async (t) => {
    const { aws, sts, assume } = await realSts(t);
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
  "the metadata service is read with IMDSv2 at the configured address, whatever the environment says",
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
    // Nothing listens there: whatever uses one of these fails.
    for (const name of names) process.env[name] = "http://127.0.0.1:9";
    const { aws, assume } = await realSts(t);
    t.match(await assume("db"), { accountId: account.id });
    const requests = aws.imds.requests.list();
    t.equal(requests[0]?.method, "PUT");
    t.ok(requests.length >= 4);
  },
);

t.test(
  "the host gets its own ARN without a permission, and assumes roles over the same connection",
  async (t) => {
    const { aws, sts, assume, end } = await realSts(t);
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
    t.match(await assumeRoleError(sts.callerArn(end.signal)), { kind: "temporary", code: "InternalFailure" });
  },
);

t.test("outside EC2 the environment's keys sign, and the metadata service is not used", async (t) => {
  const outside = await startAws();
  t.teardown(() => outside.stop());
  const { accessKeyId, secretAccessKey } = outside.addUser("developer");
  const { aws, sts } = await realSts(t, {
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
    const { aws, assume } = await realSts(t, { timeouts: { requestMs: 300, deadlineMs: 2_000 } });
    aws.sts.faults.set(faults);
    const error = await assumeRoleError(assume("db"));
    t.match(error, { kind, code });
    t.notMatch(
      `${error.stack} ${JSON.stringify(error)}`,
      new RegExp(`${leakMarker}|${issuedSecretMarker}|${issuedTokenMarker}`),
    );
    t.equal(error.cause, undefined);
  });
}

t.test("a malformed policy is refused with STS's own code", async (t) => {
  const { assume } = await realSts(t);
  const error = await assumeRoleError(assume("db", { policy: "{" }));
  t.match(error, { kind: "refused", code: "MalformedPolicyDocument" });
});

for (const { name, endpoint } of [
  { name: "nothing listens", endpoint: "http://127.0.0.1:9" },
  { name: "nothing listens on IPv6", endpoint: "http://[::1]:9" },
]) {
  t.test(
    `without a metadata service (${name}) there are no credentials, and the error names the address`,
    async (t) => {
      const metadata = new MetadataClient({ endpoint, now: Date.now });
      t.teardown(() => metadata.close());
      const { assume } = await realSts(t, { metadata });
      const error = await assumeRoleError(assume("db"));
      t.match(error, { kind: "temporary", code: "HostCredentialsUnavailable" });
      t.ok(error.message.includes(endpoint));
    },
  );
}

t.test(
  "an instance without a role, and a metadata service that is turned off, have errors of their own",
  async (t) => {
    const { aws, assume } = await realSts(t, { timeouts: { metadataMs: 300 } });
    aws.imds.setFaults({ noRole: true });
    t.match(await assumeRoleError(assume("db")), {
      code: "HostCredentialsUnavailable",
      message: /404|no instance profile/,
    });
    aws.imds.setFaults({ status: 403 });
    t.match(await assumeRoleError(assume("db")), { code: "HostCredentialsUnavailable", message: /403/ });
    aws.imds.setFaults({ hang: true });
    t.match(await assumeRoleError(assume("db")), { code: "HostCredentialsUnavailable" });
    aws.imds.setFaults({});
    t.match(await assume("db"), { accountId: account.id });
  },
);

t.test(
  "host credentials that were replaced on the instance are read again at the next refusal",
  async (t) => {
    let ahead = 0;
    const { aws, sts, assume } = await realSts(t, { now: () => Date.now() + ahead });
    await assume("db");
    const before = sts.identity().accessKeyId;
    // STS stops accepting the old keys when they expire; IMDS has new ones then.
    aws.imds.credentials.rotate(3_000);
    ahead = 6 * 3600_000;
    await assume("db");
    const expired = sts.identity().accessKeyId;
    t.not(expired, before, "close to their expiration they are read again");
    await sleep(3_100);
    ahead += 10_000;
    aws.imds.credentials.rotate();
    await assume("db");
    t.not(sts.identity().accessKeyId, expired);
  },
);

t.test(
  "if STS says that the keys have expired, they are read again and the call is repeated once",
  async (t) => {
    let ahead = 0;
    const { aws, sts, assume } = await realSts(t, { now: () => Date.now() + ahead });
    await assume("db");
    const before = sts.identity().accessKeyId;
    aws.imds.credentials.rotate();
    ahead = 10_000;
    const calls = aws.sts.counts().total;
    aws.sts.faults.setFor(roleRequest("db").roleArn, { expiredHostToken: true });
    t.match(await assumeRoleError(assume("db")), { kind: "temporary", code: "ExpiredToken" });
    t.equal(aws.sts.counts().total - calls, 2, "twice, not more");
    t.not(sts.identity().accessKeyId, before);
  },
);

t.test(
  "after AccessDenied the host reads its own role again: the instance may have a new instance profile",
  async (t) => {
    let ahead = 0;
    const { aws, assume } = await realSts(t, { now: () => Date.now() + ahead });
    await assume("db");
    aws.imds.credentials.rotate();
    ahead = 10_000;
    aws.sts.faults.set({ accessDenied: true });
    const calls = aws.sts.counts().total;
    await assumeRoleError(assume("db"));
    t.equal(aws.sts.counts().total - calls, 2);
    await assumeRoleError(assume("db"));
    t.equal(aws.sts.counts().total - calls, 3, "with the same keys the call is not repeated");
  },
);

t.test("more than an hour for a chained role: repeated with one hour, remembered, logged once", async (t) => {
  const { aws, lines, assume } = await realSts(t);
  aws.sts.faults.set({ chainingLimit: true });
  const first = await assume("db", { durationSeconds: 7_200 });
  t.ok(first.lifetimeMs <= 3_600_000);
  t.equal(aws.sts.counts().total, 2);
  await assume("db", { durationSeconds: 7_200 });
  t.equal(aws.sts.counts().total, 3);
  t.equal(lines.length, 1);
});

t.test("FIPS or dual-stack together with an endpoint is an operator error", async (t) => {
  await t.rejects(realSts(t, { useFips: true }), OperatorError);
});

t.test("a call that its caller aborts ends at once", async (t) => {
  const { aws, assume, end } = await realSts(t);
  aws.sts.faults.set({ hang: true });
  setTimeout(() => end.abort(), 50);
  t.match(await assumeRoleError(assume("db")), { code: "Timeout" });
});

t.test(
  "with the cache: 200 concurrent requests make one call; while one role hangs, others are served",
  async (t) => {
    const { aws, cache, all } = await realCache(t, { timeouts: {} });
    const get = (holder: string, role: string) =>
      cache.get(holder, keyOf(roleRequest(role)), roleRequest(role), 5_000);
    const answers = await Promise.all(Array.from({ length: 200 }, (_, index) => get(`c${index}`, "db")));
    t.ok(answers.every((answer) => answer.kind === "credentials"));
    t.equal(aws.sts.counts().total, 1);

    aws.sts.faults.setFor(roleRequest("hangs").roleArn, { hang: true });
    const hanging = get("h", "hangs");
    const started = performance.now();
    t.match(await get("c", "other"), { kind: "credentials" });
    t.comment(`another role's first answer while one hangs: ${(performance.now() - started).toFixed(1)} ms`);
    cache.release("h");
    t.match(await hanging, { kind: "unavailable" });
    mustHoldNoSecret(aws, all);
  },
);
