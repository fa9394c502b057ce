import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import tls from "node:tls";
import t, { type Test } from "tap";
import { readBody } from "../../../src/metadata/body.ts";
import { MetadataClient, type Meter, pool } from "../../../src/metadata/client.ts";
import { type Answer, metadataService } from "./fixture.ts";

const credentialsPath = "/latest/meta-data/iam/security-credentials/";

function clientOf(t: Test, endpoint: string): MetadataClient {
  const client = new MetadataClient({ endpoint, now: () => performance.now() });
  t.teardown(() => client.close());
  return client;
}

/** A meter that counts. */
function countingMeter() {
  const counts = { charged: 0, throttled: 0 };
  const meter: Meter = {
    charge: () => void counts.charged++,
    throttled: () => void counts.throttled++,
  };
  return { counts, meter };
}

/** Forwards a GET and reads its body. */
async function forward(client: MetadataClient, meter: Meter, path = "/latest/x", timeoutMs = 2_000) {
  const answer = await client.forward({ method: "GET", path, timeoutMs, meter });
  return { status: answer.statusCode, body: String(await readBody(answer, 1_000, timeoutMs)) };
}

t.test("an https endpoint is spoken to by TLS, and its certificate must be right", async (t) => {
  const folder = t.testdir();
  const made = spawnSync("openssl", [
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"],
    ...["-subj", "/CN=imds", "-addext", "subjectAltName=IP:127.0.0.1"],
    ...["-keyout", `${folder}/key.pem`, "-out", `${folder}/cert.pem`],
  ]);
  if (made.status !== 0) {
    if (process.env.CI === "true") t.fail("openssl is missing");
    else t.comment("not run: openssl is missing");
    return;
  }
  const cert = readFileSync(`${folder}/cert.pem`, "utf8");
  const { port, requests } = await metadataService(t, {
    server: https.createServer({ cert, key: readFileSync(`${folder}/key.pem`) }) as unknown as http.Server, // it has every member that the fixture uses
  });
  const endpoint = `https://127.0.0.1:${port}`;
  await t.rejects(clientOf(t, endpoint).read("/latest/x", 2_000), { cause: { message: /self-signed/ } });
  t.same(requests, [], "no request was sent");
  const before = tls.getCACertificates("default");
  tls.setDefaultCACertificates([cert]);
  t.teardown(() => tls.setDefaultCACertificates(before));
  t.match(await clientOf(t, endpoint).read("/latest/x", 2_000), { status: 200, body: "page" });
  t.same(requests, ["PUT /latest/api/token", "GET /latest/x"]);
  await t.rejects(
    clientOf(t, `http://127.0.0.1:${port}`).read("/latest/x", 2_000),
    "clear text is not understood there",
  );
});

for (const [what, token] of [
  ["an empty body", (_, res) => res.end("")],
  ["a page", (_, res) => res.end("<html>Sign in</html>")],
  ["a line too many", (_, res) => res.end("token\r\nx-forwarded-for: 1.2.3.4")],
  ["a letter that no header takes", (_, res) => res.end("tok\u00e9n")],
  ["a megabyte", (_, res) => res.end("x".repeat(1_000_000))],
  ["404, as from before IMDSv2", (_, res) => res.writeHead(404).end()],
  ["405", (_, res) => res.writeHead(405).end()],
  ["403, turned off", (_, res) => res.writeHead(403).end()],
  ["a redirect", (_, res) => res.writeHead(307, { Location: "/latest/other" }).end()],
] satisfies [string, Answer][]) {
  t.test(`after a token answer of ${what} the host's credentials are not requested`, async (t) => {
    const { endpoint, requests } = await metadataService(t, { token });
    await t.rejects(clientOf(t, endpoint).read(credentialsPath, 2_000));
    t.same(requests, ["PUT /latest/api/token"]);
  });
}

t.test(
  "a service without tokens serves containers, but the host's own reads ask for a token again",
  async (t) => {
    const { endpoint, requests } = await metadataService(t, { token: (_, res) => res.writeHead(404).end() });
    const client = clientOf(t, endpoint);
    const { meter } = countingMeter();
    t.match(await forward(client, meter), { status: 200, body: "page" });
    await t.rejects(client.read(credentialsPath, 2_000), /issues no session tokens/);
    t.match(await forward(client, meter), { status: 200, body: "page" });
    t.same(requests, ["PUT /latest/api/token", "GET /latest/x", "PUT /latest/api/token", "GET /latest/x"]);
  },
);

for (const [what, page] of [
  ["never begins", () => undefined],
  ["stops after its head", (_, res) => res.writeHead(200, { "Content-Length": 10 }).flushHeaders()],
  [
    "trickles",
    (_, res) => {
      const drip = setInterval(() => res.write("x"), 20);
      res.on("close", () => clearInterval(drip));
    },
  ],
] satisfies [string, Answer][]) {
  t.test(`an answer that ${what} has one limit`, async (t) => {
    const { endpoint } = await metadataService(t, { page });
    const started = performance.now();
    await t.rejects(clientOf(t, endpoint).read("/latest/x", 200), /no whole answer in 200 ms/);
    t.ok(performance.now() - started < 1_500);
  });
}

t.test("a body that the host reads is bounded", async (t) => {
  const { endpoint } = await metadataService(t, { page: (_, res) => res.end("x".repeat(65_537)) });
  const error = await clientOf(t, endpoint)
    .read("/latest/x", 2_000)
    .catch((thrown: unknown) => thrown);
  t.match(error, { kind: "bad-answer", message: /more than 65536 bytes/ });
});

t.test("the host and containers share one token, and one request for it", async (t) => {
  const { endpoint, requests } = await metadataService(t);
  const client = clientOf(t, endpoint);
  const { counts, meter } = countingMeter();
  await Promise.all([client.read("/latest/own", 2_000), forward(client, meter), forward(client, meter)]);
  await client.read("/latest/own", 2_000);
  t.equal(requests.filter((request) => request.startsWith("PUT")).length, 1);
  t.equal(counts.charged, 0, "the host's read sent it, so the containers' rate is not charged");
});

t.test(
  "a token that a container's request is waiting for does not hold up the host's read beyond its limit",
  async (t) => {
    const { endpoint } = await metadataService(t, { token: () => undefined });
    const client = clientOf(t, endpoint);
    const { meter } = countingMeter();
    const forwarding = forward(client, meter, "/latest/x", 1_000).catch((error: unknown) => error);
    const started = performance.now();
    await t.rejects(client.read("/latest/own", 100), /no whole answer in 100 ms/);
    t.ok(performance.now() - started < 900);
    t.match(await forwarding, { kind: "no-answer" });
  },
);

t.test("a kept connection that has died does not delay a token", async (t) => {
  const requestsOn = new WeakMap<object, number>();
  const { endpoint } = await metadataService(t, {
    token: (req, res) => {
      // On a connection that was used before, the service no longer hears.
      if (requestsOn.has(req.socket)) return;
      res.end("token");
    },
    page: (req, res) => {
      requestsOn.set(req.socket, 1);
      res.end("page");
    },
  });
  let ahead = 0;
  const client = new MetadataClient({ endpoint, now: () => performance.now() + ahead });
  t.teardown(() => client.close());
  const { meter } = countingMeter();
  await forward(client, meter);
  ahead = 6 * 3_600_000 + 1;
  const started = performance.now();
  const [forwarded, read] = await Promise.all([forward(client, meter), client.read(credentialsPath, 2_000)]);
  t.match([forwarded.status, read.status], [200, 200]);
  t.ok(performance.now() - started < 1_500);
});

for (const [what, answer] of [
  ["never begins", () => undefined],
  ["stops after its head", (_, res) => res.writeHead(200, { "Content-Length": 10 }).flushHeaders()],
] satisfies [string, Answer][]) {
  t.test(`after a token answer that ${what}, the next read gets a token of its own`, async (t) => {
    let puts = 0;
    const { endpoint } = await metadataService(t, {
      token: (req, res) => (++puts === 1 ? answer(req, res) : res.end("token")),
    });
    const client = clientOf(t, endpoint);
    await t.rejects(client.read(credentialsPath, 2_000), /no whole answer in 2000 ms/);
    t.match(await client.read(credentialsPath, 2_000), { status: 200 });
    t.equal(puts, 2);
  });
}

t.test("a 401 is answered by one new token and one retry, and each is charged to the rate", async (t) => {
  let issued = 0;
  const { endpoint, requests } = await metadataService(t, {
    token: (_, res) => res.end(`token${++issued}`),
    page: (req, res) => res.writeHead(req.headers["x-aws-ec2-metadata-token"] === "token1" ? 401 : 200).end(),
  });
  const client = clientOf(t, endpoint);
  const { counts, meter } = countingMeter();
  t.match(await forward(client, meter), { status: 200 });
  t.same(requests, ["PUT /latest/api/token", "GET /latest/x", "PUT /latest/api/token", "GET /latest/x"]);
  t.same(counts, { charged: 3, throttled: 0 }, "two tokens and the retry");
});

for (const status of [429, 503]) {
  t.test(`the meter hears of a ${status}`, async (t) => {
    const { endpoint } = await metadataService(t, { page: (_, res) => res.writeHead(status).end() });
    const { counts, meter } = countingMeter();
    t.match(await forward(clientOf(t, endpoint), meter), { status });
    t.equal(counts.throttled, 1);
  });
}

t.test("containers that use up their connections do not hold up the host's reads, nor a token", async (t) => {
  const { endpoint, requests, sockets } = await metadataService(t, {
    page: (req, res) => (req.url === "/latest/hang" ? undefined : res.end("page")),
  });
  const client = clientOf(t, endpoint);
  const { meter } = countingMeter();
  await forward(client, meter);
  const hanging = Array.from({ length: pool.connections - pool.reserved }, () =>
    forward(client, meter, "/latest/hang", 10_000).catch((error: unknown) => error),
  );
  while (requests.filter((request) => request === "GET /latest/hang").length < hanging.length)
    await new Promise((resolve) => setTimeout(resolve, 5));
  t.match(await client.read(credentialsPath, 500), { status: 200, body: "page" });
  t.match(await forward(client, meter, "/latest/x", 500), { status: 200 }, "a reserved connection is free");
  t.ok(sockets.size <= pool.connections + 1);
  client.close();
  await Promise.all(hanging);
});

t.test("no proxy variable is obeyed and no redirect is followed", async (t) => {
  const { endpoint } = await metadataService(t, {
    page: (_, res) => res.writeHead(302, { Location: "http://127.0.0.1:9/" }).end(),
  });
  const before = http.globalAgent;
  t.teardown(() => {
    http.globalAgent = before;
  });
  http.globalAgent = new http.Agent({ proxyEnv: { HTTP_PROXY: "http://127.0.0.1:9" } });
  const client = clientOf(t, endpoint);
  t.match(await client.read("/latest/x", 2_000), { status: 302 });
  t.match(await forward(client, countingMeter().meter), { status: 302 });
});
