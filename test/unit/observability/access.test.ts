import t, { type Test } from "tap";
import type { Log } from "../../../src/log.ts";
import { openAccessLog } from "../../../src/observability/access.ts";
import { openLog } from "../../../src/observability/journal.ts";
import { leakMarker, leaksHostSecret } from "../../support/aws/account.ts";
import { hostileTexts, unsafe } from "../../support/hostile-texts.ts";
import { ask, wire } from "../../support/raw-http.ts";
import { listPath, none, proxyFixture, tokenPath, web } from "../imds/fixture.ts";

const ttl = "X-aws-ec2-metadata-token-ttl-seconds: 60";

/** A verbose proxy, and the lines of its access log. */
async function verbose(t: Test, config: Readonly<Record<string, unknown>> = {}) {
  const lines: string[] = [];
  const log: Log = openLog({
    level: "debug",
    priorities: false,
    write: (line) => void lines.push(line.trimEnd()),
  });
  const proxy = await proxyFixture(t, { config, access: openAccessLog(log, "p") });
  /** Waits for the line of the last request: it comes when the answer has been sent. */
  const line = async (nth: number) => {
    for (let wait = 0; lines.length < nth && wait < 400; wait++)
      await new Promise((resolve) => setTimeout(resolve, 5));
    return lines[nth - 1] ?? "";
  };
  return { proxy, lines, line, at: (of: { address: string }) => ({ port: proxy.port, from: of.address }) };
}

t.test("each request is one line: who, what, how, and from where", async (t) => {
  const { proxy, lines, line, at } = await verbose(t);
  const token = (await ask(at(web), "PUT", tokenPath, [ttl, "User-Agent: Boto3/1.43"])).body;
  t.match(
    await line(1),
    /^answered request=p-1 container=\S+ id=\S+ address=\S+ method=PUT path=\/latest\/api\/token imds=v2 status=200 bytes=\d+ ms=[\d.]+ from=proxy userAgent=Boto3\/1\.43$/,
  );
  const get = (path: string) => ask(at(web), "GET", path, [`X-aws-ec2-metadata-token: ${token}`]);
  // On a busy machine STS may take longer than a client waits.
  let first = await get(`${listPath}Web`);
  for (let retry = 0; first.status === 503 && retry < 20; retry++) {
    await line(2);
    lines.length = 1;
    first = await get(`${listPath}Web`);
  }
  t.match(
    await line(2),
    /request=p-\d+ .*path=\/latest\/meta-data\/iam\/security-credentials\/Web imds=v2 status=200 .*from=(sts|cache)$/,
  );
  t.equal(
    /bytes=(\d+)/.exec(lines[1] ?? "")?.[1],
    String(first.text.length),
    "the bytes of the whole answer",
  );
  await get(`${listPath}Web`);
  t.match(await line(3), /from=cache$/);
  await get("/latest//meta-data/instance-id?x=1");
  t.match(await line(4), /path=\/latest\/meta-data\/instance-id .*status=200 .*from=service$/);
  await get("/latest/meta-data/instance-id");
  t.match(await line(5), /status=200 .*from=cache$/);
  await ask(at(none), "GET", "/latest/meta-data/instance-id");
  t.match(await line(6), /imds=v1 status=401 .*from=proxy$/);
  await ask(at(web), "GET", "/latest/%2e%2e/x");
  t.match(await line(7), /path="\(not canonical\)" .*status=400/);
  t.equal(lines.length, 7);
  t.equal(
    proxy.refusals.at(-1)?.requestId,
    /request=(\S+)/.exec(lines[6] ?? "")?.[1],
    "the line of the refusal has the same id",
  );
});

t.test("the port of containerCredentials has lines too", async (t) => {
  const { proxy, line } = await verbose(t);
  await ask({ port: proxy.ecsPort, from: web.address }, "GET", "/v1/credentials", ["Host: localhost"]);
  t.match(await line(1), /method=GET path=\/v1\/credentials status=200 .*from=sts$/);
  t.notMatch(await line(1), /imds=/);
});

t.test("neither credentials, nor tokens, nor user-data, nor a query reach a line", async (t) => {
  const { proxy, lines, line, at } = await verbose(t, { passthrough: { allow: ["user-data", "placement"] } });
  const token = await proxy.token(web);
  const header = `X-aws-ec2-metadata-token: ${token}`;
  const credentials = (await ask(at(web), "GET", `${listPath}Web`, [header])).body;
  const userData = await ask(at(web), "GET", `/latest/user-data?token=${token}`, [header]);
  t.equal(userData.status, 200);
  await ask(at(web), "GET", "/latest/meta-data/placement/region", [header, `Authorization: ${token}`]);
  await line(4);
  const text = lines.join("\n");
  t.equal(lines.length, 4);
  const { SecretAccessKey, Token } = JSON.parse(credentials) as Record<string, string>;
  for (const secret of [token, SecretAccessKey, Token, userData.body.trim(), leakMarker])
    t.notOk(secret !== undefined && text.includes(secret), "no secret");
  t.notOk(leaksHostSecret(text));
});

for (const hostile of hostileTexts)
  t.test(`a user agent like ${hostile.replace(/[^ -~]/g, "?")} is escaped and cut`, async (t) => {
    const lines: string[] = [];
    const log = openLog({ level: "debug", priorities: false, write: (text) => void lines.push(text) });
    openAccessLog(log, "p").answered({
      ...{ id: "p-1", caller: undefined, address: "10.0.0.1", method: "GET", path: "/", imds: "v1" },
      ...{ status: 200, bytes: 1, durationMs: 1, from: "proxy", isComplete: true },
      userAgent: `${hostile}${"x".repeat(1_000)}`,
    });
    t.notMatch((lines[0] ?? "").trimEnd(), unsafe);
    t.ok((lines[0] ?? "").length < 1_200);
  });

t.test("a client that goes before its answer leaves a line that says so", async (t) => {
  const { proxy, line, at } = await verbose(t);
  proxy.aws.imds.setFaults({ hang: true, match: "ami-id" });
  const token = await proxy.token(web);
  const client = wire(at(web).port, web.address);
  client.write(
    `GET /latest/meta-data/ami-id HTTP/1.1\r\nHost: 169.254.169.254\r\nX-aws-ec2-metadata-token: ${token}\r\n\r\n`,
  );
  setTimeout(() => client.socket.destroy(), 200);
  t.match(await line(2), /path=\/latest\/meta-data\/ami-id .*incomplete=true$/);
});

t.test("without verbose nothing is reported and no request has an id", async (t) => {
  const proxy = await proxyFixture(t);
  await ask({ port: proxy.port, from: web.address }, "GET", "/latest/meta-data/instance-id");
  t.equal(proxy.lastRefusal()?.requestId, undefined);
});
