import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import type net from "node:net";
import t, { type Test } from "tap";
import type { AssumeRoleError } from "../../../src/credentials/assume-role.ts";
import { type FailureName, failureSections, failures } from "../../../src/credentials/failures.ts";
import type { StsSettings } from "../../../src/credentials/sts.ts";
import { MetadataClient } from "../../../src/metadata/client.ts";
import type { RoleRequest } from "../../../src/roles/grant.ts";
import { account } from "../../support/aws/account.ts";
import type { AwsOptions } from "../../support/aws/aws.ts";
import type { ImdsFaults, StsFaults } from "../../support/aws/faults.ts";
import type { StsError } from "../../support/aws/sts-errors.ts";
import { assumeRoleError, realSts, roleRequest } from "./fixture.ts";

/** One way in which a role cannot be assumed, with the entry of the table that must say so. */
type Row = {
  readonly what: string;
  readonly failure: FailureName | readonly FailureName[];
  readonly imds?: Partial<ImdsFaults>;
  readonly sts?: Partial<StsFaults>;
  /** STS's answer for the role. */
  readonly answer?: StsError;
  readonly settings?: Partial<StsSettings> | ((t: Test) => Promise<Partial<StsSettings>>);
  readonly aws?: AwsOptions;
  readonly request?: Partial<RoleRequest>;
  readonly message?: RegExp;
};

const { roleArn } = roleRequest("db");
const denied = (more: string, action = "sts:AssumeRole"): StsError => ({
  code: "AccessDenied",
  status: 403,
  message: `User: arn:aws:sts::${account.id}:assumed-role/host/i-0 is not authorized to perform: ${action} on resource: ${roleArn}${more}`,
});
/** For what hangs. The others get the usual time: a busy machine is no failure. */
const quick = { metadataMs: 300, requestMs: 300, connectMs: 300 };

async function listening(t: Test, server: net.Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => server.close());
  const { port } = server.address() as net.AddressInfo; // a TCP server's address is never a string
  return port;
}

/** An HTTP proxy that answers each CONNECT with this status. */
const proxyThatAnswers =
  (status: string) =>
  async (t: Test): Promise<Partial<StsSettings>> => {
    const proxy = http.createServer();
    proxy.on("connect", (_, socket) => socket.end(`HTTP/1.1 ${status}\r\n\r\n`));
    const port = await listening(t, proxy);
    return viaProxy(`http://127.0.0.1:${port}`);
  };

const viaProxy = (url: string): Partial<StsSettings> => ({
  endpoint: undefined,
  region: "eu-west-1",
  proxyEnvironment: { HTTPS_PROXY: url },
  timeouts: { connectMs: 2_000 },
});

/** A TLS server with a certificate that is its own authority. */
const tlsServer =
  (options: { readonly name: string; readonly days: number; readonly trusted: boolean }) =>
  async (t: Test): Promise<Partial<StsSettings>> => {
    const { name, days } = options;
    const script = `set -e
      openssl req -new -newkey rsa:2048 -nodes -subj /CN=${name} -keyout key -out request
      echo subjectAltName=DNS:${name} > names
      openssl x509 -req -in request -signkey key -days ${days} -extfile names -out cert`;
    const folder = t.testdir({});
    execFileSync("sh", ["-c", script], { cwd: folder, stdio: "ignore" });
    const cert = readFileSync(`${folder}/cert`, "utf8");
    const port = await listening(t, https.createServer({ cert, key: readFileSync(`${folder}/key`) }));
    return { endpoint: `https://localhost:${port}`, ...(options.trusted && { caBundle: cert }) };
  };

/** A metadata service that has this document as the host's credentials. */
const hostDocument = (document: string): Partial<StsSettings> => ({
  region: "eu-west-1",
  metadata: {
    endpoint: "http://metadata",
    read: async (path) => ({ status: 200, body: path.endsWith("/") ? "host" : document, at: undefined }),
  },
});

const metadataAt = (endpoint: string) => async (t: Test) => {
  const metadata = new MetadataClient({ endpoint, now: Date.now });
  t.teardown(() => metadata.close());
  return { metadata };
};

const userKeys = (t: Test, secret?: string) => {
  t.comment("keys of the environment");
  return { hostKeys: { accessKeyId: "AKIAIOSFODNN7EXAMPLE", secretAccessKey: secret ?? "x" } };
};

const rows: readonly Row[] = [
  // The host's metadata service.
  {
    what: "no metadata service",
    failure: "metadata-unreachable",
    settings: metadataAt("http://127.0.0.1:9"),
  },
  { what: "IMDS hangs", failure: "metadata-timeout", imds: { hang: true } },
  {
    what: "IMDS answers each request late",
    failure: "metadata-timeout",
    imds: { delayMs: 200 },
    settings: { timeouts: { deadlineMs: 500 } },
  },
  { what: "IMDS is disabled", failure: "metadata-disabled", imds: { status: 403 } },
  {
    what: "IMDS answers 403 to the list only",
    failure: "metadata-disabled",
    imds: { status: 403, match: "security-credentials" },
  },
  {
    what: "IMDS rejects its own token",
    failure: "metadata-token-rejected",
    imds: { status: 401, match: "meta-data" },
  },
  {
    what: "IMDS answers 401 to the token request",
    failure: "metadata-token-rejected",
    imds: { status: 401 },
  },
  { what: "IMDS issues no tokens", failure: "metadata-no-tokens", imds: { status: 404, match: "api/token" } },
  { what: "IMDS throttles", failure: "metadata-throttled", imds: { status: 429 } },
  { what: "IMDS answers 500", failure: "metadata-failing", imds: { status: 500 } },
  {
    what: "IMDS answers 503 to the list",
    failure: "metadata-failing",
    imds: { status: 503, match: "security-credentials" },
  },
  { what: "IMDS closes each connection", failure: "metadata-failing", imds: { dropConnection: true } },
  { what: "no instance profile", failure: "no-instance-profile", imds: { noRole: true } },
  {
    what: "EC2 cannot assume the instance's role",
    failure: "instance-role-unusable",
    settings: hostDocument('{"Code":"AssumeRoleUnauthorizedAccess"}'),
    message: /AssumeRoleUnauthorizedAccess/,
  },
  { what: "the host's document is no JSON", failure: "metadata-failing", settings: hostDocument("<html>") },
  {
    what: "the host's document lacks the secret",
    failure: "metadata-failing",
    settings: hostDocument('{"Code":"Success","AccessKeyId":"A"}'),
  },
  {
    what: "IMDS names no region",
    failure: "region-unknown",
    imds: { status: 404, match: "placement/region" },
  },
  // The way to STS.
  {
    what: "the endpoint's name does not exist",
    failure: ["dns-no-such-name", "dns-failing"],
    settings: { endpoint: "http://sts.invalid" },
  },
  {
    what: "nothing listens at the endpoint",
    failure: "connection-refused",
    settings: { endpoint: "http://127.0.0.1:9" },
  },
  { what: "STS closes each connection", failure: "connection-reset", sts: { dropConnection: true } },
  { what: "STS hangs", failure: "sts-timeout", sts: { hang: true } },
  { what: "a body that trickles", failure: "answer-unusable", sts: { bodyDelayMs: 5_000 } },
  {
    what: "a certificate of an unknown authority",
    failure: "tls-untrusted",
    settings: tlsServer({ name: "localhost", days: 1, trusted: false }),
    message: /^(?!.*Node)/,
  },
  {
    what: "an expired certificate",
    failure: "tls-expired",
    settings: tlsServer({
      name: "localhost",
      days: -1,
      trusted: true,
    }),
  },
  {
    what: "a certificate for another name",
    failure: "tls-name",
    settings: tlsServer({ name: "other.example", days: 1, trusted: true }),
  },
  {
    what: "plain HTTP where TLS is expected",
    failure: "tls-protocol",
    settings: async (t) => ({ endpoint: `https://127.0.0.1:${await listening(t, http.createServer())}` }),
  },
  { what: "the proxy is not there", failure: "proxy-unreachable", settings: viaProxy("http://127.0.0.1:9") },
  {
    what: "the proxy's name does not exist",
    failure: "proxy-unreachable",
    settings: viaProxy("http://proxy.invalid:3128"),
  },
  {
    what: "the proxy wants a password",
    failure: "proxy-auth",
    settings: proxyThatAnswers("407 Proxy Authentication Required"),
  },
  { what: "the proxy refuses", failure: "proxy-refused", settings: proxyThatAnswers("403 Forbidden") },
  {
    what: "the proxy cannot reach STS",
    failure: "proxy-refused",
    settings: proxyThatAnswers("502 Bad Gateway"),
  },
  { what: "a login page in place of STS", failure: "not-from-sts", sts: { foreign: "login-200" } },
  { what: "a WAF in place of STS", failure: "not-from-sts", sts: { foreign: "html-403" } },
  { what: "an answer that is cut", failure: "answer-unusable", sts: { foreign: "cut-200" } },
  { what: "an answer that is no XML to its end", failure: "answer-unusable", sts: { malformedXml: true } },
  {
    what: "an answer for another role",
    failure: "answer-unusable",
    sts: { answerFor: "arn:aws:sts::123456789012:assumed-role/other/web-1" },
  },
  { what: "STS answers 500", failure: "sts-failing", sts: { status500: true } },
  {
    what: "the endpoint is another service",
    failure: "not-sts",
    answer: { code: "InvalidAction", status: 400, message: "Could not find operation AssumeRole" },
  },
  { what: "STS throttles", failure: "throttled", sts: { throttle: true } },
  // The host's keys.
  { what: "STS is not activated in the region", failure: "region-disabled", sts: { regionDisabled: true } },
  {
    what: "the instance's credentials have expired",
    failure: "keys-expired",
    sts: { expiredHostToken: true },
  },
  {
    what: "the environment's session token has expired",
    failure: "environment-keys-expired",
    answer: {
      code: "ExpiredToken",
      status: 403,
      message: "The security token included in the request is expired",
    },
    settings: async () => ({}),
  },
  { what: "an access key that does not exist", failure: "keys-invalid", settings: async (t) => userKeys(t) },
  { what: "a secret that belongs to another key", failure: "signature-wrong" },
  {
    what: "a clock that STS does not help to correct",
    failure: "clock-wrong",
    sts: { clockSkewSeconds: 3_600, noDate: true },
  },
  {
    what: "a call without its signature",
    failure: "signature-missing",
    answer: {
      code: "MissingAuthenticationToken",
      status: 403,
      message: "Request is missing Authentication Token",
    },
  },
  {
    what: "an account that is not active",
    failure: "account-inactive",
    answer: {
      code: "OptInRequired",
      status: 403,
      message: "The AWS Access Key Id needs a subscription for the service",
    },
  },
  // The role.
  {
    what: "the trust policy or a missing permission",
    failure: "trust-or-permission",
    sts: { accessDenied: true },
  },
  {
    what: "no identity-based policy",
    failure: "host-permission",
    answer: denied(" because no identity-based policy allows the sts:AssumeRole action"),
  },
  {
    what: "no resource-based policy",
    failure: "trust-policy",
    answer: denied(" because no resource-based policy allows the sts:AssumeRole action"),
  },
  {
    what: "a session policy",
    failure: "session-or-boundary",
    answer: denied(" because no session policy allows the sts:AssumeRole action"),
  },
  {
    what: "a permissions boundary",
    failure: "session-or-boundary",
    answer: denied(" because no permissions boundary allows the sts:AssumeRole action"),
  },
  {
    what: "a service control policy",
    failure: "explicit-deny",
    answer: denied(" with an explicit deny in a service control policy"),
  },
  { what: "sts:TagSession", failure: "tag-permission", answer: denied("", "sts:TagSession") },
  {
    what: "sts:SetSourceIdentity",
    failure: "source-identity-permission",
    answer: denied("", "sts:SetSourceIdentity"),
  },
  {
    what: "the role of sts.assumeFirst",
    failure: "first-role-refused",
    settings: { assumeFirst: `arn:aws:iam::${account.id}:role/hop` },
    aws: { sts: { deny: ["*/hop"] } },
  },
  { what: "a malformed session policy", failure: "malformed-policy", request: { policy: "{" } },
  {
    what: "a session policy that is too large",
    failure: "policy-too-large",
    answer: {
      code: "PackedPolicyTooLarge",
      status: 400,
      message: "Packed policy consumes 120% of allotted space",
    },
  },
  {
    what: "a policy ARN of another account",
    failure: "invalid-parameter",
    request: { policyArns: ["arn:aws:iam::999999999999:policy/x"] },
  },
  {
    what: "a code that nobody knows",
    failure: "refused-otherwise",
    answer: { code: "Novelty", status: 403, message: "new" },
  },
];

for (const row of rows) {
  const names = [row.failure].flat();
  t.test(`${row.what}: ${names.join(" or ")}`, async (t) => {
    const error = await failureOf(t, row);
    t.ok(names.includes(error.failure), `${error.failure}: ${error.code}: ${error.message}`);
    if (row.message !== undefined) t.match(error.message, row.message);
    t.notMatch(`${error.message} ${error.advice}`, /node/i, "nobody is told to use flags of Node");
    t.same(error.diagnosis, { failure: error.failure, ...failures[error.failure] });
  });
}

function isSlow({ imds, sts }: Row): boolean {
  return imds?.hang === true || sts?.hang === true || sts?.bodyDelayMs !== undefined;
}

async function failureOf(t: Test, row: Row): Promise<AssumeRoleError> {
  const given = typeof row.settings === "function" ? await row.settings(t) : (row.settings ?? {});
  const roles = row.answer === undefined ? {} : { roles: { [roleArn]: { error: row.answer } } };
  const { aws, sts } = await realSts(
    t,
    { ...given, timeouts: { ...(isSlow(row) && quick), ...given.timeouts } },
    { ...row.aws, sts: { ...row.aws?.sts, ...roles } },
  );
  aws.imds.setFaults(row.imds ?? {});
  aws.sts.faults.set(row.sts ?? {});
  const ask = () => sts.assumeRole(roleRequest("db", "web-1", row.request), AbortSignal.timeout(20_000));
  if (row.failure !== "environment-keys-expired" && row.failure !== "signature-wrong")
    return assumeRoleError(ask());
  // Keys of the environment, which only this stand-in knows.
  const { accessKeyId, secretAccessKey } = aws.addUser("developer");
  const { openSts } = await import("../../../src/credentials/sts.ts");
  const secret = row.failure === "signature-wrong" ? `${secretAccessKey}x` : secretAccessKey;
  const ours = openSts({
    metadata: { endpoint: "http://127.0.0.1:9", read: () => Promise.reject(new Error("not asked")) },
    region: "eu-west-1",
    endpoint: aws.sts.url,
    hostKeys: { accessKeyId, secretAccessKey: secret },
    assumeFirst: undefined,
    useFips: false,
    useDualstack: false,
    proxyEnvironment: {},
    log: { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} },
    now: Date.now,
    wallNow: Date.now,
  });
  t.teardown(() => ours.close());
  return assumeRoleError(ours.assumeRole(roleRequest("db"), AbortSignal.timeout(20_000)));
}

for (const { limit, aws, sts } of [
  { limit: "duration-over-role-maximum", aws: {}, sts: {} },
  {
    limit: "duration-over-chaining-limit",
    aws: { sts: { roles: { [roleArn]: { maxSessionDurationSeconds: 43_200 } } } },
    sts: { chainingLimit: true },
  },
] as const) {
  t.test(`${limit}: the container gets credentials for an hour, and the log says why`, async (t) => {
    const { aws: stand, sts: client, lines, assume } = await realSts(t, {}, aws);
    stand.sts.faults.set(sts);
    const { lifetimeMs } = await assume("db", { durationSeconds: 7_200 });
    t.ok(lifetimeMs > 3_500_000 && lifetimeMs <= 3_600_000, `${lifetimeMs}`);
    t.equal(client.durationLimit(roleArn), limit);
    t.match(lines, [
      { level: "warn", fields: { failure: limit, durationSeconds: 7_200, ...failures[limit] } },
    ]);
    await assume("db", { durationSeconds: 7_200 });
    t.equal(lines.length, 1, "once");
    t.equal(stand.sts.counts().total, 3, "the second time it asks for an hour at once");
  });
}

t.test("each entry of the table can happen: a row above, or a reason why not", async (t) => {
  const notHere: readonly FailureName[] = [
    // What only a whole host can show; diagnosis.test.ts has their codes.
    ...(["no-route", "out-of-resources", "dns-failing", "unknown"] as const),
    ...(["duration-over-role-maximum", "duration-over-chaining-limit"] as const),
  ];
  const seen = new Set<string>([...rows.flatMap(({ failure }) => failure), ...notHere]);
  t.same(
    Object.keys(failures).filter((name) => !seen.has(name)),
    [],
  );
  t.equal(Object.values(failureSections).flatMap(Object.keys).length, Object.keys(failures).length);
});

for (const [name, { cause, cure }] of Object.entries(failures))
  t.test(`${name} has a cause and a cure in sentences`, async (t) => {
    t.match(cause, /^(?![A-Z][a-z]).*[^.]$/, "a cause continues a sentence");
    t.match(cure, /^[A-Z`].*[.]$/, "a cure is one");
  });
