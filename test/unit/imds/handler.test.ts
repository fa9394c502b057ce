import t, { type Test } from "tap";
import { account, identityProofMarker, leaksHostSecret } from "../../support/aws/account.ts";
import { ask, type RawAnswer, wire } from "../../support/raw-http.ts";
import { db, lax, listPath, none, proxyFixture, tokenPath, web } from "./fixture.ts";

const tokenHeader = "X-aws-ec2-metadata-token";
const ttlHeader = "X-aws-ec2-metadata-token-ttl-seconds";
const asked = (answer: RawAnswer) => Object.fromEntries(answer.headers);

const json = (answer: RawAnswer) => JSON.parse(answer.body) as Readonly<Record<string, string>>; // IMDS documents hold texts only

t.test("a session token is issued as on EC2", async (t) => {
  const proxy = await proxyFixture(t);
  const at = { port: proxy.port, from: web.address };

  const given = await ask(at, "PUT", tokenPath, [`${ttlHeader}: 21600`]);
  t.match(given.body, /^AQA[A-Za-z0-9_-]{51}==$/, "56 characters without a newline");
  const { Date: date, Connection: _, "Keep-Alive": __, ...headers } = asked(given);
  t.match(date, / GMT$/);
  t.same(headers, {
    "Content-Type": "text/plain",
    "Content-Length": "56",
    Server: "EC2ws",
    "Accept-Ranges": "none",
    "X-Aws-Ec2-Metadata-Token-Ttl-Seconds": "21600",
  });

  const cases: readonly [
    what: string,
    method: string,
    path: string,
    lines: readonly string[],
    status: number,
    code: string,
  ][] = [
    ["without a TTL", "PUT", tokenPath, [], 400, "token-ttl"],
    ["with a TTL of 0", "PUT", tokenPath, [`${ttlHeader}: 0`], 400, "token-ttl"],
    ["with a TTL of 21601", "PUT", tokenPath, [`${ttlHeader}: 21601`], 400, "token-ttl"],
    ["with a TTL of abc", "PUT", tokenPath, [`${ttlHeader}: abc`], 400, "token-ttl"],
    ["with a negative TTL", "PUT", tokenPath, [`${ttlHeader}: -1`], 400, "token-ttl"],
    ["with a broken TTL", "PUT", tokenPath, [`${ttlHeader}: 1.5`], 400, "token-ttl"],
    ["with an empty TTL", "PUT", tokenPath, [`${ttlHeader}:`], 400, "token-ttl"],
    ["with two TTLs", "PUT", tokenPath, [`${ttlHeader}: 60`, `${ttlHeader}: 60`], 400, "token-ttl"],
    [
      "through a proxy",
      "PUT",
      tokenPath,
      [`${ttlHeader}: 60`, "X-Forwarded-For: 10.0.0.1"],
      403,
      "forwarded",
    ],
    ["under a dated version", "PUT", "/2021-03-23/api/token", [`${ttlHeader}: 60`], 403, "token-version"],
    ["with GET", "GET", tokenPath, [`${ttlHeader}: 60`], 405, "token-method"],
    ["with POST", "POST", tokenPath, [`${ttlHeader}: 60`, "Content-Length: 0"], 405, "token-method"],
    ["to another host", "PUT", tokenPath, [`${ttlHeader}: 60`, "Host: evil.example"], 403, "host"],
  ];
  for (const [what, method, path, lines, status, code] of cases)
    await t.test(`a token request ${what} gets ${status} ${code}`, async (t) => {
      const answer = await ask(at, method, path, lines);
      t.equal(answer.status, status);
      t.equal(proxy.lastRefusal()?.code, code);
      t.notMatch(answer.body, /AQA/);
    });
  for (const ttl of ["1", "60", "21600", " 300 "])
    await t.test(`a token request with a TTL of ${ttl} gets a token`, async (t) => {
      t.equal((await ask(at, "PUT", tokenPath, [`${ttlHeader}: ${ttl}`])).status, 200);
    });

  const wrongMethod = await ask(at, "GET", tokenPath);
  const { Date: _date, Connection: _connection, "Keep-Alive": _keepAlive, ...exact } = asked(wrongMethod);
  t.same(
    exact,
    { Allow: "OPTIONS, PUT", "Content-Length": "0", "Content-Type": "text/plain", Server: "EC2ws" },
    "GET on the token path is answered as in the capture",
  );
  t.equal(
    (await ask({ port: proxy.port, from: none.address }, "PUT", tokenPath, [`${ttlHeader}: 60`])).status,
    200,
    "a container without a role gets a token: it may read metadata",
  );
});

t.test(
  "a token is valid for the container that it was issued to, until it expires, and for no other",
  async (t) => {
    const proxy = await proxyFixture(t);
    const token = await proxy.token(web, 60);
    const at = (of: { address: string }) => ({ port: proxy.port, from: of.address });
    const leaf = "/latest/meta-data/instance-id";
    const credentials = `${listPath}Web`;

    const good = await ask(at(web), "GET", leaf, [`${tokenHeader}: ${token}`]);
    t.equal(good.status, 200);
    t.equal(good.header(ttlHeader), "60", "the answer has the token's remaining TTL");

    const cases: readonly [what: string, lines: readonly string[], code: string][] = [
      ["no token", [], "token-missing"],
      ["an empty token", [`${tokenHeader}:`], "token-invalid"],
      ["a made-up token", [`${tokenHeader}: AQAAAA==`], "token-invalid"],
      [
        "a token with one letter changed",
        [`${tokenHeader}: ${token.replace(/.(?=..==$)/, (c) => (c === "A" ? "B" : "A"))}`],
        "token-invalid",
      ],
      ["two tokens", [`${tokenHeader}: ${token}`, `${tokenHeader}: ${token}`], "token-invalid"],
      ["a token with a character appended", [`${tokenHeader}: ${token}x`], "token-invalid"],
      [
        "a token of the real service",
        [`${tokenHeader}: AQAEAGdZ0000000000000000000000000000000000000000000000==`],
        "token-invalid",
      ],
    ];
    const before = proxy.aws.imds.requests.total;
    for (const [what, lines, code] of cases)
      for (const path of [leaf, listPath, credentials, "/latest/meta-data/"])
        await t.test(`${what} on ${path} gets 401 ${code}`, async (t) => {
          const answer = await ask(at(web), "GET", path, lines);
          t.equal(answer.status, 401);
          t.equal(answer.header("content-type"), "text/html");
          t.equal(proxy.lastRefusal()?.code, code);
        });
    for (const path of [leaf, listPath, credentials, `${listPath}Database`]) {
      t.equal(
        (await ask(at(db), "GET", path, [`${tokenHeader}: ${token}`])).status,
        401,
        `web's token used by db on ${path}`,
      );
    }
    t.equal(proxy.aws.imds.requests.total, before, "and IMDS is never asked");

    proxy.pass(57_000);
    const late = await ask(at(web), "GET", leaf, [`${tokenHeader}: ${token}`]);
    t.equal(late.status, 200, "seconds before it expires");
    t.match(late.header(ttlHeader), /^[123]$/);
    proxy.pass(3_500);
    t.equal((await ask(at(web), "GET", leaf, [`${tokenHeader}: ${token}`])).status, 401, "after it expired");

    using kept = wire(proxy.port, web.address);
    const short = await proxy.token(web, 5);
    const text = `GET ${leaf} HTTP/1.1\r\nHost: 169.254.169.254\r\n${tokenHeader}: ${short}\r\n\r\n`;
    kept.write(text);
    t.equal((await kept.answer())?.status, 200);
    proxy.pass(10_000);
    kept.write(text);
    t.equal((await kept.answer())?.status, 401, "also on a connection on which it was verified before");
  },
);

t.test("IMDSv1 is answered if httpTokens is optional, for all containers or for an alias", async (t) => {
  const strict = await proxyFixture(t);
  const open = await proxyFixture(t, { config: { httpTokens: "optional" } });
  const leaf = "/latest/meta-data/instance-id";
  const v1 = (proxy: { port: number }, of: { address: string }, path: string, ...lines: string[]) =>
    ask({ port: proxy.port, from: of.address }, "GET", path, lines);
  t.equal((await v1(strict, web, leaf)).status, 401, "required is the default");
  t.equal((await v1(strict, none, leaf)).status, 401, "and holds for containers without a role");
  const laxAnswer = await v1(strict, lax, `${listPath}Lax`);
  t.equal(laxAnswer.status, 200, "the alias says optional");
  t.equal(json(laxAnswer).Code, "Success");
  t.equal(laxAnswer.header(ttlHeader), undefined, "no TTL is told to a client that brought no token");
  t.equal((await v1(open, web, `${listPath}Web`)).status, 200, "the configuration says optional");
  for (const proxy of [strict, open])
    t.equal(
      (await v1(proxy, lax, leaf, `${tokenHeader}: wrong`)).status,
      401,
      "a wrong token is wrong in optional mode too",
    );
});

t.test("listings show iam/ only to a container with a role, and nothing that is denied", async (t) => {
  const proxy = await proxyFixture(t);
  const lines = async (of: { address: string }, path: string) => (await proxy.get(of, path)).body.split("\n");
  const own = await lines(web, "/latest/meta-data/");
  t.ok(own.includes("iam/"));
  t.ok(own.includes("instance-id") && own.includes("placement/"));
  for (const hidden of ["identity-credentials/", "managed-ssh-keys/", "public-keys/"])
    t.notOk(own.includes(hidden), hidden);
  t.notOk(
    own.some((line) => line.startsWith("iam-ecs-")),
    "no task's credentials",
  );
  t.notOk((await lines(none, "/latest/meta-data/")).includes("iam/"), "no iam/ without a role");
  t.same(await lines(web, "/latest/meta-data"), own, "the same without the slash");
  t.same(await lines(web, "/latest/meta-data/iam/"), ["info", "security-credentials/"]);
  t.same(
    await lines(web, "/latest/"),
    ["dynamic", "meta-data"],
    "of the version's folders only what may be read",
  );
  t.ok((await lines(web, "/")).includes("latest"));
  for (const denied of [
    "/latest/user-data",
    "/latest/dynamic/instance-identity/pkcs7",
    "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance",
    "/latest/meta-data/no-such-thing",
  ])
    t.equal((await proxy.get(web, denied)).status, 404, denied);
});

t.test("a forwarded request and its answer carry nothing of the host's session", async (t) => {
  const proxy = await proxyFixture(t);
  const answer = await proxy.get(
    web,
    "/latest/meta-data/placement/availability-zone/",
    "Cookie: a=b",
    "X-Forwarded-For: 1.2.3.4",
  );
  t.equal(answer.status, 200);
  t.equal(answer.header("content-type"), "text/plain");
  for (const name of ["Set-Cookie", "Via", "X-Cache"]) t.equal(answer.header(name), undefined, name);
  t.equal(answer.header(ttlHeader), "21600", "the TTL is of the container's token, not of the proxy's own");
  const seen = proxy.aws.imds.requests.list();
  t.ok(seen.length > 0);
  for (const { headers } of seen) {
    for (const name of ["x-forwarded-for", "cookie", "authorization"])
      t.equal(headers[name], undefined, `${name} does not reach IMDS`);
  }
  t.equal(
    (await proxy.get(web, "/latest/meta-data/placement/region?x=1")).body,
    account.region,
    "a query is taken and dropped",
  );
});

t.test(
  "HEAD, HTTP/1.0, pipelines, Expect, keep-alive and every spelling of the headers are answered",
  async (t) => {
    const proxy = await proxyFixture(t);
    const token = await proxy.token(web);
    const path = `${listPath}Web`;
    const whole = await ask({ port: proxy.port }, "GET", path, [`${tokenHeader}: ${token}`]);

    const head = await ask({ port: proxy.port }, "HEAD", path, [`${tokenHeader}: ${token}`]);
    t.same(
      [head.status, head.header("content-length")],
      [200, String(whole.body.length)],
      "HEAD has the length",
    );

    for (const name of ["x-aws-ec2-metadata-token", "X-AWS-EC2-METADATA-TOKEN", "x-AWS-ec2-Metadata-TOKEN"])
      t.equal((await ask({ port: proxy.port }, "GET", path, [`${name}: ${token}`])).status, 200, name);

    using old = wire(proxy.port);
    old.write(`GET ${path} HTTP/1.0\r\n${tokenHeader}: ${token}\r\n\r\n`);
    t.equal((await old.answer())?.body, whole.body, "HTTP/1.0 without Host");
    t.equal(await old.closed(), "", "and the connection is closed after it");

    using pipelined = wire(proxy.port);
    const leaf = `GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: 169.254.169.254\r\n${tokenHeader}: ${token}\r\n\r\n`;
    const own = `GET ${path} HTTP/1.1\r\nHost: 169.254.169.254\r\n${tokenHeader}: ${token}\r\n\r\n`;
    pipelined.write(leaf + own + leaf + own + leaf);
    for (const expected of ["i-", "{", "i-", "{", "i-"])
      t.match(
        (await pipelined.answer())?.body,
        new RegExp(`^\\${expected.slice(0, 1)}`),
        "answers come in order",
      );

    // libcurl's token request (s3fs-fuse/s3fs-fuse#1765).
    using expecting = wire(proxy.port);
    expecting.write(
      `PUT ${tokenPath} HTTP/1.1\r\nHost: 169.254.169.254\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n${ttlHeader}: 60\r\n\r\n`,
    );
    t.equal((await expecting.answer())?.status, 100, "Expect: 100-continue");
    expecting.write("0\r\n\r\n");
    t.match((await expecting.answer())?.body, /^AQA/, "and an empty body in chunks");
    expecting.write(own);
    t.equal((await expecting.answer())?.status, 200, "and the connection is kept");

    using kept = wire(proxy.port);
    for (let round = 0; round < 20; round++) {
      kept.write(own);
      t.equal((await kept.answer())?.status, 200, `request ${round} of one connection`);
    }

    using bare = wire(proxy.port);
    bare.write(`PUT ${tokenPath} HTTP/1.1\r\nHost: 169.254.169.254\r\n${ttlHeader}: 60\r\n\r\n`);
    t.equal((await bare.answer())?.status, 200, "PUT without a Content-Length, as Java sends it");

    const encoded = await ask({ port: proxy.port }, "GET", path, [
      `${tokenHeader}: ${token}`,
      "Accept-Encoding: gzip, br",
    ]);
    t.same([encoded.body, encoded.header("content-encoding")], [whole.body, undefined], "never compressed");
  },
);

t.test("if IMDS is down, metadata gets 503 or 502, and credentials are still served", async (t) => {
  const proxy = await proxyFixture(t);
  t.equal((await proxy.get(web, `${listPath}Web`)).status, 200);
  proxy.aws.imds.setFaults({ dropConnection: true });
  for (const path of ["/latest/meta-data/instance-type", "/latest/meta-data/", "/latest/"])
    t.ok([502, 503].includes((await proxy.get(web, path)).status), path);
  t.equal((await proxy.get(web, `${listPath}Web`)).status, 200);
});

t.test(
  "a container with too many requests to IMDS in flight gets 503, and the others are served",
  async (t) => {
    const proxy = await proxyFixture(t, { config: { httpTokens: "optional" } });
    proxy.aws.imds.setFaults({ hang: true, match: "/spot/" });
    const asking = Array.from({ length: 140 }, (_, nth) =>
      ask({ port: proxy.port }, "GET", `/latest/meta-data/spot/${nth}`).catch(() => undefined),
    );
    const busy = await Promise.any(
      asking.map(async (one) => {
        const answer = await one;
        if (answer === undefined) throw new Error("no answer");
        return answer;
      }),
    );
    t.equal(busy.status, 503);
    t.equal(busy.header("retry-after"), "1");
    t.match(proxy.refusals[0], { status: 503, code: "upstream-busy", reason: /too many of its requests/ });
    t.match(proxy.refusals[0]?.caller, { container: { name: "web" } });
    const began = performance.now();
    for (const path of [
      "/latest/meta-data/placement/region",
      "/latest/meta-data/",
      "/latest/meta-data/events/x",
    ])
      t.ok(
        [200, 404].includes((await ask({ port: proxy.port, from: db.address }, "GET", path)).status),
        path,
      );
    t.ok(performance.now() - began < 1500);
    await Promise.all(asking);
  },
);

t.test("no answer of any test path holds a secret of the host", async (t) => {
  const proxy = await proxyFixture(t, { config: { httpTokens: "optional" } });
  await everyPath(t, proxy.port);
});

async function everyPath(t: Test, port: number): Promise<void> {
  for (const path of [
    "/",
    "/latest",
    "/latest/meta-data/",
    "/latest/dynamic/",
    "/latest/user-data",
    listPath,
    `${listPath}${account.hostRole}`,
    "/latest/meta-data/iam/info",
    "/latest/meta-data/identity-credentials/ec2/info",
    "/latest/dynamic/instance-identity/pkcs7",
  ]) {
    for (const { address } of [web, none]) {
      const { text } = await ask({ port, from: address }, "GET", path);
      t.notOk(
        leaksHostSecret(text) ||
          text.includes(identityProofMarker) ||
          text.includes(account.hostRole) ||
          text.includes(account.hostProfile),
        path,
      );
    }
  }
}
