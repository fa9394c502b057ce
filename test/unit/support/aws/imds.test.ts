import t from "tap";
import {
  account,
  identityProofMarker,
  leakKeyMarker,
  leakMarker,
  leaksHostSecret,
} from "../../../support/aws/account.ts";
import { startImds } from "../../../support/aws/imds.ts";
import { ask, read, sessionToken } from "./ask.ts";

t.test("a token PUT follows the rules of IMDSv2", async (t) => {
  await using imds = disposable(await startImds());
  const ttl = (value: string) => ({ "X-aws-ec2-metadata-token-ttl-seconds": value });
  const cases = [
    { path: "/latest/api/token", headers: ttl("21600"), status: 200 },
    { path: "/latest/api/token", headers: ttl("1"), status: 200 },
    { path: "/latest/api/token/", headers: ttl("60"), status: 200 },
    { path: "/latest/api/token", headers: {}, status: 400 },
    { path: "/latest/api/token", headers: ttl(""), status: 400 },
    { path: "/latest/api/token", headers: ttl("0"), status: 400 },
    { path: "/latest/api/token", headers: ttl("-1"), status: 400 },
    { path: "/latest/api/token", headers: ttl("21601"), status: 400 },
    { path: "/latest/api/token", headers: ttl("6e1"), status: 400 },
    { path: "/latest/api/token", headers: { ...ttl("60"), "X-Forwarded-For": "10.0.0.1" }, status: 403 },
    { path: "/2021-03-23/api/token", headers: ttl("60"), status: 403 },
    { path: "/1.0/api/token", headers: ttl("60"), status: 403 },
  ];
  for (const { path, headers, status } of cases)
    await t.test(`PUT ${path} ${JSON.stringify(headers)} is ${status}`, async (t) => {
      t.equal((await ask(imds.url, path, { method: "PUT", headers })).status, status);
    });
  const { body, headers } = await ask(imds.url, "/latest/api/token", { method: "PUT", headers: ttl("300") });
  t.match(body, /^AQA[\w-]{51}==$/, "56 characters");
  t.equal(headers["x-aws-ec2-metadata-token-ttl-seconds"], "300");
  t.equal(headers["content-length"], "56");
});

for (const method of ["GET", "POST", "DELETE"])
  t.test(`${method} on the token path is 405 with the headers of the genuine answer`, async (t) => {
    await using imds = disposable(await startImds());
    const { status, headers, body } = await ask(imds.url, "/latest/api/token", { method });
    const { date, ...rest } = headers;
    t.equal(status, 405);
    t.equal(body, "");
    t.ok(date);
    t.same(rest, {
      allow: "OPTIONS, PUT",
      "content-length": "0",
      "content-type": "text/plain",
      server: "EC2ws",
      connection: "close",
    });
  });

for (const httpTokens of ["required", "optional"] as const)
  t.test(
    `with tokens ${httpTokens}, a GET without a token is ${httpTokens === "required" ? 401 : 200}, and an invalid token is 401`,
    async (t) => {
      let now = Date.UTC(2026, 10, 22);
      await using imds = disposable(await startImds({ httpTokens, now: () => now }));
      const get = (token?: string, extra = {}) =>
        ask(imds.url, "/latest/meta-data/instance-id", {
          headers: { ...(token === undefined ? {} : { "X-aws-ec2-metadata-token": token }), ...extra },
        });
      const token = await sessionToken(imds.url, 60);
      t.equal((await get()).status, httpTokens === "required" ? 401 : 200, `no token, ${httpTokens}`);
      t.equal((await get("")).status, 401, "an empty token");
      t.equal((await get(`${token.slice(0, -4)}AA==`)).status, 401, "an altered token");
      t.equal((await get(token)).status, 200);
      t.equal((await get(token, { "X-Forwarded-For": "10.0.0.1" })).status, 403, "with a proxy's header");
      now += 1500;
      t.equal((await get(token)).headers["x-aws-ec2-metadata-token-ttl-seconds"], "58", "the remaining time");
      now += 60_000;
      t.equal((await get(token)).status, 401, "an expired token");
      const next = await sessionToken(imds.url);
      imds.invalidateTokens();
      t.equal((await get(next)).status, 401, "a token from before the invalidation");
    },
  );

t.test("the headers are those of the recordings", async (t) => {
  await using imds = disposable(await startImds());
  const { headers } = await read(imds.url, "/latest/meta-data/placement/availability-zone/");
  t.match(headers, {
    "content-type": "text/plain",
    "accept-ranges": "none",
    "content-length": "10",
    server: "EC2ws",
    connection: "close",
  });
  t.ok(Date.parse(headers["last-modified"] ?? ""));
  const userData = await read(imds.url, "/latest/user-data");
  t.match(userData.headers, { "content-type": "application/octet-stream", "accept-ranges": "bytes" });
  const token = await sessionToken(imds.url);
  const head = await ask(imds.url, "/latest/meta-data/instance-id", {
    method: "HEAD",
    headers: { "X-aws-ec2-metadata-token": token },
  });
  t.match(head, { status: 200, body: "", headers: { "content-length": "19" } });
  t.equal((await ask(imds.url, "/latest/meta-data/instance-id", { method: "POST" })).status, 405);
});

t.test("the 404 page is the genuine 339 bytes", async (t) => {
  await using imds = disposable(await startImds());
  const { status, headers, body } = await read(imds.url, "/latest/meta-data/nothing");
  t.equal(status, 404);
  t.equal(headers["content-type"], "text/html");
  t.equal(headers["content-length"], "339");
  t.equal(Buffer.byteLength(body, "latin1"), 339);
  t.ok(body.includes('EN"\n\t\t "http://www.w3.org/'));
});

t.test("listings have one entry per line, directories with a slash, and no newline at the end", async (t) => {
  await using imds = disposable(await startImds());
  const cases: Readonly<Record<string, string | RegExp>> = {
    "/": /^1\.0\n2007-01-19\n(?:.*\n)+latest$/,
    "/latest": "dynamic\nmeta-data\nuser-data",
    "/latest/meta-data": /^ami-id\n(?:.*\n)*iam\/\niam-ecs-1\/\nidentity-credentials\/\n(?:.*\n)*tags\/$/,
    "/latest/meta-data/iam/": "info\nsecurity-credentials/\nsecurity-credentials-extended/",
    "/latest/meta-data/iam/security-credentials": account.hostRole,
    "/2021-03-23/meta-data/iam/security-credentials/": account.hostRole,
    "/1.0/meta-data/placement": "availability-zone\navailability-zone-id\nregion",
    "/latest/meta-data/public-keys/": "0=host-key",
    "/latest/meta-data/public-keys/0/": "openssh-key",
    "/latest/meta-data/tags/instance": "Name\nenv",
    "/latest/meta-data/identity-credentials/ec2/security-credentials/": "ec2-instance",
  };
  for (const [path, expected] of Object.entries(cases))
    await t.test(path, async (t) => {
      const { status, body } = await read(imds.url, path);
      t.equal(status, 200);
      if (typeof expected === "string") t.equal(body, expected);
      else t.match(body, expected);
    });
});

t.test(
  "credentials have the JSON format of IMDS, and each body of the host contains the markers",
  async (t) => {
    await using imds = disposable(await startImds());
    const task = "0123456789abcdef0123456789abcdef-TaskApplication";
    const keys = ["Code", "LastUpdated", "Type", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"];
    for (const path of [
      `iam/security-credentials/${account.hostRole}`,
      `iam/security-credentials-extended/${account.hostRole}`,
      "identity-credentials/ec2/security-credentials/ec2-instance",
      `iam-ecs-1/security-credentials/${task}`,
    ])
      await t.test(path, async (t) => {
        const { body } = await read(imds.url, `/latest/meta-data/${path}`);
        const document: Record<string, string> = JSON.parse(body);
        t.same(Object.keys(document), path.includes("extended") ? [...keys, "AccountId"] : keys);
        t.match(body, /^\{\n {2}"Code" : "Success",\n(?: {2}"\w+" : ".*",\n)+ {2}"\w+" : ".*"\n\}$/);
        t.match(document.AccessKeyId, new RegExp(`^ASIA${leakKeyMarker}[A-Z0-9]{2}$`));
        t.equal(document.SecretAccessKey?.length, 40);
        t.ok(document.SecretAccessKey?.includes(leakMarker) && document.Token?.includes(leakMarker));
        t.match(document.Expiration, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
        t.ok(leaksHostSecret(body));
      });
    t.ok((await read(imds.url, "/latest/user-data")).body.includes(leakMarker));
    t.ok(
      (await read(imds.url, "/latest/dynamic/instance-identity/pkcs7")).body.includes(identityProofMarker),
    );
    const info = await read(imds.url, "/latest/meta-data/iam/info");
    t.match(JSON.parse(info.body), { Code: "Success", InstanceProfileId: /^AIPA[A-Z2-7]{17}$/ });
    t.match(JSON.parse((await read(imds.url, "/latest/dynamic/instance-identity/document")).body), {
      region: account.region,
    });
  },
);

t.test("an unknown role name is 404, and so is all of iam without a role", async (t) => {
  await using imds = disposable(await startImds());
  t.equal((await read(imds.url, "/latest/meta-data/iam/security-credentials/other")).status, 404);
  imds.setFaults({ noRole: true });
  for (const path of [
    "iam",
    "iam/info",
    "iam/security-credentials/",
    `iam/security-credentials/${account.hostRole}`,
  ])
    await t.test(`${path} without a role`, async (t) => {
      t.equal((await read(imds.url, `/latest/meta-data/${path}`)).status, 404);
    });
  t.notMatch((await read(imds.url, "/latest/meta-data/")).body, /^iam\/$/m);
});

t.test(
  "host credentials are renewed five minutes before they expire, unless a test set the expiry",
  async (t) => {
    let now = Date.UTC(2026, 10, 22);
    await using imds = disposable(await startImds({ now: () => now }));
    const first = imds.credentials.host.accessKeyId;
    now += 5.9 * 3600_000;
    t.equal(imds.credentials.host.accessKeyId, first);
    now += 0.05 * 3600_000;
    t.not(imds.credentials.host.accessKeyId, first);
    const short = imds.credentials.rotate(1000);
    now += 5000;
    t.equal(imds.credentials.host.accessKeyId, short.accessKeyId, "still served after it has expired");
    const path = `/latest/meta-data/iam/security-credentials/${account.hostRole}`;
    t.equal(JSON.parse((await read(imds.url, path)).body).AccessKeyId, short.accessKeyId);
  },
);

t.test("requests are recorded as received, up to the limit", async (t) => {
  await using imds = disposable(await startImds({ record: 3 }));
  for (let n = 0; n < 10; n += 1) await ask(imds.url, `/a//%2e?${n}`, { headers: { "X-Trace": String(n) } });
  t.equal(imds.requests.total, 10);
  t.match(imds.requests.list(), [
    { url: "/a//%2e?7" },
    {},
    { method: "GET", url: "/a//%2e?9", headers: { "x-trace": "9" } },
  ]);
  t.equal(imds.requests.list().length, 3);
});

function disposable<Service extends { stop(): Promise<void> }>(service: Service): Service & AsyncDisposable {
  return { ...service, [Symbol.asyncDispose]: () => service.stop() };
}
