import t, { type Test } from "tap";
import { account, identityProofMarker, leaksHostSecret } from "../../support/aws/account.ts";
import { ask, type RawAnswer, wire } from "../../support/raw-http.ts";
import {
  admin,
  db,
  engineContainer,
  givenProxy,
  lax,
  listPath,
  none,
  roleArn,
  stranger,
  tokenPath,
  web,
} from "./fixture.ts";

const tokenHeader = "X-aws-ec2-metadata-token";
const ttlHeader = "X-aws-ec2-metadata-token-ttl-seconds";
const asked = (answer: RawAnswer) => Object.fromEntries(answer.headers);

const json = (answer: RawAnswer) => JSON.parse(answer.body) as Readonly<Record<string, string>>; // IMDS documents hold texts only

t.test("a session token is asked for as on EC2", async (t) => {
  const proxy = await givenProxy(t);
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
    ["below a dated version", "PUT", "/2021-03-23/api/token", [`${ttlHeader}: 60`], 403, "token-version"],
    ["with GET", "GET", tokenPath, [`${ttlHeader}: 60`], 405, "token-method"],
    ["with POST", "POST", tokenPath, [`${ttlHeader}: 60`, "Content-Length: 0"], 405, "token-method"],
    ["of a stranger", "PUT", tokenPath, [`${ttlHeader}: 60`, "Host: evil.example"], 403, "host"],
  ];
  for (const [what, method, path, lines, status, code] of cases) {
    const answer = await ask(at, method, path, lines);
    t.equal(answer.status, status, what);
    t.equal(proxy.lastRefusal()?.code, code, what);
    t.notMatch(answer.body, /AQA/, what);
  }
  for (const ttl of ["1", "60", "21600", " 300 "])
    t.equal((await ask(at, "PUT", tokenPath, [`${ttlHeader}: ${ttl}`])).status, 200, `a TTL of ${ttl}`);

  const wrongMethod = await ask(at, "GET", tokenPath);
  const { Date: _date, Connection: _connection, "Keep-Alive": _keepAlive, ...exact } = asked(wrongMethod);
  t.same(
    exact,
    { Allow: "OPTIONS, PUT", "Content-Length": "0", "Content-Type": "text/plain", Server: "EC2ws" },
    "a token path asked with GET is answered as the capture has it",
  );
  t.equal(
    (await ask({ port: proxy.port, from: none.address }, "PUT", tokenPath, [`${ttlHeader}: 60`])).status,
    200,
    "a container without a role gets a token: it may read metadata",
  );
});

t.test(
  "a token works for the container that it was issued to, while it lives, and for nobody else",
  async (t) => {
    const proxy = await givenProxy(t);
    const token = await proxy.token(web, 60);
    const at = (of: { address: string }) => ({ port: proxy.port, from: of.address });
    const leaf = "/latest/meta-data/instance-id";
    const credentials = `${listPath}Web`;

    const good = await ask(at(web), "GET", leaf, [`${tokenHeader}: ${token}`]);
    t.equal(good.status, 200);
    t.equal(good.header(ttlHeader), "60", "the answer says what is left of the token");

    const cases: readonly [what: string, lines: readonly string[], code: string][] = [
      ["no token", [], "token-missing"],
      ["an empty one", [`${tokenHeader}:`], "token-invalid"],
      ["one that was made up", [`${tokenHeader}: AQAAAA==`], "token-invalid"],
      [
        "one with a letter changed",
        [`${tokenHeader}: ${token.replace(/.(?=..==$)/, (c) => (c === "A" ? "B" : "A"))}`],
        "token-invalid",
      ],
      ["two of them", [`${tokenHeader}: ${token}`, `${tokenHeader}: ${token}`], "token-invalid"],
      ["one with something behind it", [`${tokenHeader}: ${token}x`], "token-invalid"],
      [
        "the real service's own",
        [`${tokenHeader}: AQAEAGdZ0000000000000000000000000000000000000000000000==`],
        "token-invalid",
      ],
    ];
    const before = proxy.aws.imds.requests.total;
    for (const [what, lines, code] of cases) {
      for (const path of [leaf, listPath, credentials, "/latest/meta-data/"]) {
        const answer = await ask(at(web), "GET", path, lines);
        t.equal(answer.status, 401, `${what} on ${path}`);
        t.equal(answer.header("content-type"), "text/html");
        t.equal(proxy.lastRefusal()?.code, code, what);
      }
    }
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
    t.equal(late.status, 200, "seconds before its end");
    t.match(late.header(ttlHeader), /^[123]$/);
    proxy.pass(3_500);
    t.equal((await ask(at(web), "GET", leaf, [`${tokenHeader}: ${token}`])).status, 401, "after its end");

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

t.test("IMDSv1 is answered where httpTokens is optional, for all or for an alias", async (t) => {
  const strict = await givenProxy(t);
  const open = await givenProxy(t, { config: { httpTokens: "optional" } });
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

t.test("credentials are sent byte for byte as EC2 sends them", async (t) => {
  const proxy = await givenProxy(t);
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

t.test("a container's own role is the only one that it is answered about", async (t) => {
  const proxy = await givenProxy(t);
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

t.test("listings show iam/ only to a container with a role, and nothing that is denied", async (t) => {
  const proxy = await givenProxy(t);
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

t.test("what is passed through carries nothing of the host's session", async (t) => {
  const proxy = await givenProxy(t);
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

t.test("clients of every manner of HTTP are answered", async (t) => {
  const proxy = await givenProxy(t);
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
});

t.test("the Host header must name the metadata service or the address that was asked", async (t) => {
  const proxy = await givenProxy(t);
  const token = await proxy.token(web);
  const status = async (host: string, to?: string) =>
    (
      await ask({ port: proxy.port, ...(to !== undefined && { to }) }, "GET", `${listPath}Web`, [
        `Host: ${host}`,
        `${tokenHeader}: ${token}`,
      ])
    ).status;
  for (const host of [
    "169.254.169.254",
    "169.254.169.254:80",
    "[fd00:ec2::254]",
    "[fd00:ec2::254]:80",
    "[FD00:EC2:0::254]",
    "instance-data",
    "instance-data.ec2.internal",
    "127.0.0.1",
    `127.0.0.1:${proxy.port}`,
  ])
    t.equal(await status(host), 200, host);
  for (const host of [
    "evil.example",
    "evil.example:80",
    "169.254.169.254.evil.example",
    "localhost",
    "127.0.0.9",
    "2852039166",
    "0xa9.254.169.254",
    "169.254.169.254@evil.example",
    "169.254.169.254,evil.example",
    "[::1]",
    "",
  ])
    t.equal(await status(host), 403, `"${host}"`);
  t.equal(
    await status("127.0.0.77", "127.0.0.77"),
    200,
    "another address of the host, if it was asked there",
  );
});

t.test("who is no container gets 403 and IMDS is never asked", async (t) => {
  const proxy = await givenProxy(t);
  const token = await proxy.token(web);
  const before = proxy.aws.imds.requests.total;
  const from = { port: proxy.port, from: stranger };
  const answers = await Promise.all([
    ask(from, "PUT", tokenPath, [`${ttlHeader}: 60`]),
    ask(from, "GET", `${listPath}Web`, [`${tokenHeader}: ${token}`]),
    ask(from, "GET", listPath, [`${tokenHeader}: ${token}`]),
    ask(from, "GET", "/latest/meta-data/instance-id"),
    ask(from, "GET", "/"),
  ]);
  for (const answer of answers) t.equal(answer.status, 403);
  t.ok(proxy.refusals.slice(-answers.length).every(({ code }) => code === "unknown-caller"));
  t.equal(proxy.aws.imds.requests.total, before);
});

t.test("an address that two containers claim is nobody's, until one of them is gone", async (t) => {
  const [one, two] = [engineContainer("aa", "127.0.0.20"), engineContainer("bb", "127.0.0.20")];
  const proxy = await givenProxy(t, {
    containers: [one, two],
    provenance: { check: async () => ({ proven: true }) },
    config: { defaultAlias: "web" },
  });
  const at = { port: proxy.port, from: "127.0.0.20" };
  const refused = await ask(at, "PUT", tokenPath, [`${ttlHeader}: 60`]);
  t.same([refused.status, proxy.lastRefusal()?.code], [403, "address-conflict"]);
  const waiting = ask(at, "PUT", tokenPath, [`${ttlHeader}: 60`]);
  setTimeout(() => proxy.directory.remove("engine", two.id), 100);
  t.equal((await waiting).status, 200, "who asks in the moment of a change waits for its end");
});

t.test("a connection that is not the container's own gets neither token nor credentials", async (t) => {
  const victim = engineContainer("cc", "127.0.0.21");
  let proven = false;
  let checks = 0;
  const proxy = await givenProxy(t, {
    containers: [victim],
    provenance: {
      check: async () => {
        checks++;
        return proven
          ? { proven: true }
          : { proven: false, code: "no-such-socket", reason: "the container has no such connection" };
      },
    },
    config: { defaultAlias: "web" },
  });
  const at = { port: proxy.port, from: "127.0.0.21" };
  const token = await ask(at, "PUT", tokenPath, [`${ttlHeader}: 60`]);
  t.same([token.status, proxy.lastRefusal()?.code], [403, "no-such-socket"]);
  proven = true;
  const stolen = (await ask(at, "PUT", tokenPath, [`${ttlHeader}: 60`])).body;
  proven = false;
  const answer = await ask(at, "GET", `${listPath}Web`, [`${tokenHeader}: ${stolen}`]);
  t.same([answer.status, /ASIA/.test(answer.body)], [403, false], "even with the container's own token");
  const named = [
    listPath,
    `${listPath.slice(0, -1)}`,
    "/latest/meta-data/iam/info",
    "/latest/meta-data/iam/",
    "/latest/meta-data/iam/security-credentials-extended/",
  ];
  for (const path of named) {
    const answer = await ask(at, "GET", path, [`${tokenHeader}: ${stolen}`]);
    t.same(
      [answer.status, /Web|info/.test(answer.body)],
      [403, false],
      `${path} says nothing about its role`,
    );
  }
  t.equal(proxy.aws.sts.counts().total, 0, "and STS is not asked for a neighbour");

  proven = true;
  checks = 0;
  using kept = wire(proxy.port, "127.0.0.21");
  const text = `GET ${listPath}Web HTTP/1.1\r\nHost: 169.254.169.254\r\n${tokenHeader}: ${stolen}\r\n\r\n`;
  for (let round = 0; round < 5; round++) {
    kept.write(text);
    t.equal((await kept.answer())?.status, 200);
  }
  t.equal(checks, 1, "the proof is made once a connection");
  proxy.directory.upsert("engine", { ...victim, name: "renamed" });
  proven = false;
  kept.write(text);
  t.equal((await kept.answer())?.status, 403, "and again when the container's entry has changed");
});

for (const [code, status] of [
  ["no-such-socket", 403],
  ["port-listening", 403],
  ["unreadable", 503],
  ["container-gone", 503],
  ["no-pid", 503],
] as const)
  t.test(`a token is refused with ${status} where the proof fails with ${code}`, async (t) => {
    const victim = engineContainer("cc", "127.0.0.21");
    const vias: string[] = [];
    const proxy = await givenProxy(t, {
      containers: [victim],
      provenance: {
        check: async (_container, _connection, via) => {
          vias.push(via);
          return { proven: false, code, reason: "for the test" };
        },
      },
    });
    const answer = await ask({ port: proxy.port, from: "127.0.0.21" }, "PUT", tokenPath, [
      `${ttlHeader}: 60`,
    ]);
    t.same([answer.status, proxy.lastRefusal()?.code], [status, code]);
    t.equal(answer.header("retry-after"), status === 503 ? "1" : undefined);
    const ecs = await ask({ port: proxy.ecsPort, from: "127.0.0.21" }, "GET", "/v1/credentials", [
      "Host: 127.0.0.1",
    ]);
    t.same([ecs.status, JSON.parse(ecs.body).code], [status, code]);
    t.same([...new Set(vias)], ["redirect", "direct"], "each listener asks for its own kind of connection");
  });

t.test("an address that nobody has, while an engine cannot be asked, is told to come again", async (t) => {
  const proxy = await givenProxy(t, { complete: false });
  const answer = await ask({ port: proxy.port, from: stranger }, "PUT", tokenPath, [`${ttlHeader}: 60`]);
  t.same(
    [answer.status, answer.header("retry-after")],
    [503, "1"],
    "not 403, which SDKs take for `no IMDSv2 here`",
  );
  t.equal(proxy.lastRefusal()?.code, "engine-unavailable");
});

t.test("nobody gets what was fetched for the container that had the address before", async (t) => {
  const former = engineContainer("dd", "127.0.0.22", { labels: { "ec2metaproxy.RoleAlias": "web" } });
  const next = engineContainer("ee", "127.0.0.22", { labels: { "ec2metaproxy.RoleAlias": "db" } });
  const proxy = await givenProxy(t, {
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
});

t.test(
  "however many ask before the first list is in, they are answered by it",
  { timeout: 30_000 },
  async (t) => {
    const listed = Promise.withResolvers<void>();
    const late = engineContainer("dd", "127.0.0.22", { labels: { "ec2metaproxy.RoleAlias": "web" } });
    const proxy = await givenProxy(t, {
      listed: listed.promise,
      provenance: { check: async () => ({ proven: true }) },
      config: { httpTokens: "optional" },
    });
    const at = { port: proxy.port, from: "127.0.0.22" };
    const asked = Array.from({ length: 200 }, () => ask(at, "GET", listPath));
    while (proxy.imds.connections() < asked.length) await new Promise((resolve) => setTimeout(resolve, 5));
    proxy.directory.upsert("engine", late);
    listed.resolve();
    t.same(
      [...new Set((await Promise.all(asked)).map(({ status, body }) => `${status} ${body}`))],
      ["200 Web"],
    );
  },
);

t.test("a reload that decides the same again disturbs nobody who waits for STS", async (t) => {
  const proxy = await givenProxy(t, { config: { httpTokens: "optional" } });
  proxy.aws.sts.faults.set({ latencyMs: 500 });
  const pending = ask({ port: proxy.port, from: web.address }, "GET", `${listPath}Web`);
  while (proxy.aws.sts.counts().inFlight === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  proxy.callers.replace(proxy.policy, "i-0123456789abcdef0");
  const answer = await pending;
  t.same([answer.status, json(answer).Code], [200, "Success"]);
});

t.test("a grant that is taken away by a reload ends at once, on open connections too", async (t) => {
  const proxy = await givenProxy(t);
  const token = await proxy.token(web);
  using kept = wire(proxy.port);
  const text = `GET ${listPath}Web HTTP/1.1\r\nHost: 169.254.169.254\r\n${tokenHeader}: ${token}\r\n\r\n`;
  kept.write(text);
  t.equal((await kept.answer())?.status, 200);
  const { configSchema } = await import("../../../src/config/schema.ts");
  const { rolePolicy } = await import("../../../src/roles/grant.ts");
  proxy.callers.replace(rolePolicy(configSchema.parse({})), undefined);
  kept.write(text);
  t.equal((await kept.answer())?.status, 404);
});

t.test("IAM's refusal is a 200 with Code and Message, STS's silence a 503 with Retry-After", async (t) => {
  const proxy = await givenProxy(t);
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
});

t.test("IMDS that is gone gives 503 or 502, and the credentials are served on", async (t) => {
  const proxy = await givenProxy(t);
  t.equal((await proxy.get(web, `${listPath}Web`)).status, 200);
  proxy.aws.imds.setFaults({ dropConnection: true });
  for (const path of ["/latest/meta-data/instance-type", "/latest/meta-data/", "/latest/"])
    t.ok([502, 503].includes((await proxy.get(web, path)).status), path);
  t.equal((await proxy.get(web, `${listPath}Web`)).status, 200);
});

t.test(
  "a container with too many questions for IMDS under way gets 503, and the others are served",
  async (t) => {
    const proxy = await givenProxy(t, { config: { httpTokens: "optional" } });
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

t.test("a container that asks too often gets 429, and the others are served", async (t) => {
  const proxy = await givenProxy(t, { config: { limits: { requestsPerSecond: 20 } } });
  const token = await proxy.token(web);
  const others = await proxy.token(db);
  const statuses: number[] = [];
  for (let round = 0; round < 40; round++)
    statuses.push((await ask({ port: proxy.port }, "GET", listPath, [`${tokenHeader}: ${token}`])).status);
  t.ok(statuses.filter((status) => status === 200).length >= 19, "its share");
  t.ok(statuses.includes(429), "and no more");
  t.equal(proxy.refusals.find(({ status }) => status === 429)?.code, "too-many-requests");
  t.equal(
    (await ask({ port: proxy.port, from: db.address }, "GET", listPath, [`${tokenHeader}: ${others}`]))
      .status,
    200,
  );
  proxy.pass(1_000);
  t.equal(
    (await ask({ port: proxy.port }, "GET", listPath, [`${tokenHeader}: ${token}`])).status,
    200,
    "a second later",
  );
});

t.test("no answer of any test path holds a secret of the host", async (t) => {
  const proxy = await givenProxy(t, { config: { httpTokens: "optional" } });
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
