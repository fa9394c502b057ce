import t from "tap";
import { ask, wire } from "../../support/raw-http.ts";
import { admin, db, engineContainer, none, proxyFixture, roleArn, stranger, web } from "./fixture.ts";

const path = "/v1/credentials";
type Fixture = Awaited<ReturnType<typeof proxyFixture>>;
const get = (proxy: Fixture, from: string, lines: readonly string[] = ["Host: 127.0.0.1"]) =>
  ask({ port: proxy.ecsPort, from }, "GET", path, lines);
const json = (body: string) => JSON.parse(body) as Readonly<Record<string, string>>; // the documents hold texts, and one number

t.test("the container credentials endpoint answers as the agents of ECS and EKS do", async (t) => {
  const proxy = await proxyFixture(t);
  const answer = await get(proxy, web.address, [
    "Host: 127.0.0.1",
    "Accept: application/json",
    "Authorization: x",
  ]);
  t.equal(answer.status, 200);
  t.equal(answer.header("content-type"), "application/json");
  const document = json(answer.body);
  t.match(document, {
    RoleArn: roleArn("Web"),
    AccessKeyId: /^ASIA/,
    SecretAccessKey: /./,
    Token: /./,
    Expiration: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/,
  });
  t.notMatch(
    json((await get(proxy, db.address)).body).AccessKeyId,
    document.AccessKeyId,
    "another gets its own",
  );
  t.equal(proxy.grants.length, 2, "each grant is recorded");
});

t.test(
  "the container credentials endpoint refuses the callers that the metadata service refuses",
  async (t) => {
    const proxy = await proxyFixture(t);
    proxy.aws.sts.faults.setFor(roleArn("Database"), { status500: true });
    const cases: readonly [
      what: string,
      from: string,
      lines: readonly string[],
      status: number,
      code: string,
    ][] = [
      ["a container without a role", none.address, ["Host: 127.0.0.1"], 404, "no-role-requested"],
      [
        "a request through a proxy (X-Forwarded-For)",
        web.address,
        ["Host: 127.0.0.1", "X-Forwarded-For: 172.17.0.3"],
        403,
        "forwarded",
      ],
      [
        "a request through a proxy (Via)",
        web.address,
        ["Host: 127.0.0.1", "Via: 1.1 squid"],
        403,
        "forwarded",
      ],
      [
        "a request through a proxy (Forwarded)",
        web.address,
        ["Host: 127.0.0.1", "Forwarded: for=172.17.0.3"],
        403,
        "forwarded",
      ],
      ["a caller that is no container", stranger, ["Host: 127.0.0.1"], 403, "unknown-caller"],
      ["a page under a rebound DNS name", web.address, ["Host: evil.example"], 403, "host"],
      ["a role that IAM refuses", admin.address, ["Host: localhost"], 403, "AssumeRoleUnauthorizedAccess"],
      ["a role while STS is down", db.address, ["Host: 169.254.170.2"], 503, "CredentialsUninitialized"],
    ];
    for (const [what, from, lines, status, code] of cases)
      await t.test(`${what} gets ${status} ${code}`, async (t) => {
        const answer = await get(proxy, from, lines);
        t.equal(answer.status, status);
        const document = json(answer.body);
        t.same([document.code, document.Code, document.HTTPErrorCode], [code, code, status]);
        t.equal(document.message, document.Message);
        t.notMatch(answer.body, /ASIA/);
        if (status === 503) t.match(answer.header("retry-after"), /^[1-9]/);
      });
    for (const [method, target, status] of [
      ["POST", path, 405],
      ["GET", "/", 404],
      ["GET", "/v1/credentials/../credentials", 404],
      ["GET", "/latest/meta-data/iam/security-credentials/Web", 404],
    ] as const)
      await t.test(`${method} ${target} gets ${status}`, async (t) => {
        const answer = await ask({ port: proxy.ecsPort }, method, target, [
          "Host: 127.0.0.1",
          "Content-Length: 0",
        ]);
        t.equal(answer.status, status);
      });
  },
);

t.test(
  "the container credentials endpoint always requires the proof, because it has no session token",
  async (t) => {
    let checks = 0;
    const proxy = await proxyFixture(t, {
      containers: [engineContainer("aa", "127.0.0.30")],
      provenance: {
        check: async () => {
          checks++;
          return { proven: false, code: "no-such-socket", reason: "the container has no such connection" };
        },
      },
      config: { defaultAlias: "web", identityProof: "token" },
    });
    t.equal((await get(proxy, "127.0.0.30")).status, 403);
    t.equal((await get(proxy, "127.0.0.30", ["Host: 127.0.0.1", "X-aws-ec2-metadata-token: x"])).status, 403);
    t.equal(checks, 2);
    t.equal(proxy.aws.sts.counts().total, 0);
  },
);

t.test("requests to both listeners count together against a container's rate", async (t) => {
  const proxy = await proxyFixture(t, { config: { limits: { requestsPerSecond: 5 } } });
  const statuses: number[] = [];
  using kept = wire(proxy.ecsPort);
  for (let round = 0; round < 20; round++) {
    kept.write(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`);
    statuses.push((await kept.answer())?.status ?? 0);
  }
  t.ok(statuses.includes(200) && statuses.includes(429), String(statuses));
  t.equal((await get(proxy, db.address)).status, 200);
});
