import { AssumeRoleCommand, type AssumeRoleCommandOutput, STSClient } from "@aws-sdk/client-sts";
import t from "tap";
import { account } from "../../../support/aws/account.ts";
import { type Aws, startAws } from "../../../support/aws/aws.ts";
import { noStsFaults, readFaults, type StsFaults } from "../../../support/aws/faults.ts";
import { ask, read, sessionToken } from "./ask.ts";

const roleArn = "arn:aws:iam::123456789012:role/web";
const otherArn = "arn:aws:iam::123456789012:role/db";
const path = "/latest/meta-data/instance-id";

t.test("each IMDS fault has its effect, on the matching paths only", async (t) => {
  await using aws = await startAws();
  const { url } = aws.imds;
  const headers = { "X-aws-ec2-metadata-token": await sessionToken(url) };
  for (const status of [429, 500, 503]) {
    aws.imds.setFaults({ status });
    t.equal((await ask(url, path, { headers })).status, status);
  }
  aws.imds.setFaults({ dropConnection: true });
  await t.rejects(ask(url, path, { headers }), { code: "ECONNRESET" });
  aws.imds.setFaults({ hang: true });
  await t.rejects(ask(url, path, { headers, timeoutMs: 100 }), { name: "AbortError" });
  aws.imds.setFaults({ delayMs: 60 });
  const started = performance.now();
  t.equal((await ask(url, path, { headers })).status, 200);
  t.ok(performance.now() - started >= 55);
  aws.imds.setFaults({ status: 500, match: "/api/token" });
  t.equal((await ask(url, path, { headers })).status, 200, "another path");
  t.equal((await ask(url, "/latest/api/token", { method: "PUT" })).status, 500, "the matching path");
  aws.imds.setFaults({});
  t.equal((await read(url, path)).status, 200, "off again");
});

t.test("each STS fault reaches the client as AWS would send it", async (t) => {
  await using aws = await startAws();
  type Expected = Readonly<Record<string, unknown>> & { readonly name: string | RegExp };
  const cases: readonly (readonly [Partial<StsFaults>, Expected])[] = [
    [
      { throttle: true },
      { name: "Throttling", message: "Rate exceeded", $metadata: { httpStatusCode: 400 } },
    ],
    [{ accessDenied: true }, { name: "AccessDenied", $metadata: { httpStatusCode: 403 } }],
    [{ status500: true }, { name: "InternalFailure", $metadata: { httpStatusCode: 500 } }],
    [{ expiredHostToken: true }, { name: "ExpiredToken", $metadata: { httpStatusCode: 403 } }],
    [{ regionDisabled: true }, { name: "RegionDisabledException", $metadata: { httpStatusCode: 403 } }],
    [{ clockSkewSeconds: 3600 }, { name: "SignatureDoesNotMatch", message: /^Signature expired/ }],
    [{ clockSkewSeconds: -3600 }, { name: "SignatureDoesNotMatch", message: /^Signature not yet current/ }],
    [{ malformedXml: true }, { name: "Error", message: /XML parse error/ }],
    [{ dropConnection: true }, { name: "Error", code: "ECONNRESET" }],
    [{ hang: true }, { name: /Abort|Timeout/ }],
  ];
  for (const [faults, expected] of cases)
    await t.test(JSON.stringify(faults), async (t) => {
      const timeoutMs = faults.hang ? 200 : 5000;
      aws.sts.faults.set(faults);
      await t.rejects(assume(aws, roleArn, timeoutMs), expected, "for all calls");
      aws.sts.faults.clear();
      if ("clockSkewSeconds" in faults) return;
      aws.sts.faults.setFor(roleArn, faults);
      await t.rejects(assume(aws, roleArn, timeoutMs), expected, "for the role");
      await t.resolves(assume(aws, otherArn), "not for another role");
      aws.sts.faults.clear();
    });
  const outcomes = new Set(aws.sts.calls.list().map(({ outcome }) => outcome));
  for (const outcome of ["ok", "Throttling", "malformedXml", "hang", "drop"])
    t.ok(outcomes.has(outcome), outcome);
});

t.test(
  "calls to a slow STS are counted in flight, and the Date header follows the skewed clock",
  async (t) => {
    await using aws = await startAws();
    aws.sts.faults.set({ latencyMs: 80 });
    await Promise.all([roleArn, otherArn, `${otherArn}-2`].map((arn) => assume(aws, arn)));
    t.match(aws.sts.counts(), { inFlight: 0, maxInFlight: 3, total: 3 });
    aws.reset();
    t.match(aws.sts.counts(), { maxInFlight: 0, total: 0 });
    aws.sts.faults.set({ clockSkewSeconds: 7200 });
    const { headers } = await ask(aws.sts.url, "/", { method: "POST" });
    const ahead = (Date.parse(headers.date ?? "") - Date.now()) / 1000;
    t.ok(ahead > 7100 && ahead < 7300);
  },
);

t.test("calls above the limit per second are throttled until the next second", async (t) => {
  let now = Date.UTC(2026, 10, 22);
  await using aws = await startAws({ now: () => now });
  aws.sts.faults.set({ callsPerSecond: 2, clockSkewSeconds: (Date.now() - now) / 1000 });
  const host = aws.imds.credentials.rotate(1e12);
  const results = [];
  for (let n = 0; n < 4; n += 1)
    results.push(
      await assume(aws, roleArn, 5000, host).then(
        () => "ok",
        ({ name }) => name,
      ),
    );
  t.same(results, ["ok", "ok", "Throttling", "Throttling"]);
  now += 1000;
  await t.resolves(assume(aws, roleArn, 5000, host));
});

t.test("calls are recorded with role, session and parameters", async (t) => {
  await using aws = await startAws();
  await assume(aws, roleArn);
  t.match(aws.sts.calls.list(), [
    {
      action: "AssumeRole",
      roleArn,
      sessionName: "session-1",
      outcome: "ok",
      params: { DurationSeconds: "900", Version: "2011-06-15" },
    },
  ]);
});

t.test("faults from JSON must have known names and valid types", async (t) => {
  t.same(readFaults(noStsFaults, { latencyMs: 5 }), { faults: { latencyMs: 5 } });
  t.match(readFaults(noStsFaults, { latency: 5 }), {
    problem: /no fault named latency; there are latencyMs, /,
  });
  t.match(readFaults(noStsFaults, { hang: "yes" }), { problem: "faults: hang must be a boolean" });
  t.match(readFaults(noStsFaults, null), { problem: /expected an object/ });
});

/** Calls AssumeRole as the host, without retries. */
async function assume(
  aws: Aws,
  arn: string,
  timeoutMs = 5000,
  host = aws.imds.credentials.host,
): Promise<AssumeRoleCommandOutput> {
  const { accessKeyId, secretAccessKey, sessionToken } = host;
  const credentials = { accessKeyId, secretAccessKey, sessionToken };
  const client = new STSClient({
    endpoint: aws.sts.url,
    region: account.region,
    maxAttempts: 1,
    credentials,
  });
  const command = new AssumeRoleCommand({ RoleArn: arn, RoleSessionName: "session-1", DurationSeconds: 900 });
  try {
    return await client.send(command, { abortSignal: AbortSignal.timeout(timeoutMs) });
  } finally {
    client.destroy();
  }
}
