import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import http, { type IncomingMessage, type ServerResponse } from "node:http";
import https from "node:https";
import type { AddressInfo } from "node:net";
import tls from "node:tls";
import t, { type Test } from "tap";
import { HostCredentials } from "../../../src/credentials/host-credentials.ts";
import { InstanceMetadata } from "../../../src/credentials/instance-metadata.ts";

type Answer = (req: IncomingMessage, res: ServerResponse) => void;

/** A metadata service that answers the token, and everything else, as it is told. Ends with the test. */
async function given(t: Test, options: { token?: Answer; page?: Answer; server?: http.Server } = {}) {
  const asked: string[] = [];
  const server = options.server ?? http.createServer();
  server.on("request", (req: IncomingMessage, res: ServerResponse) => {
    asked.push(`${req.method} ${req.url}`);
    const answer = req.method === "PUT" ? options.token : options.page;
    if (answer === undefined) res.end(req.method === "PUT" ? "token" : "page");
    else answer(req, res);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo; // a TCP server's address is never a string
  return { asked, port, endpoint: `http://127.0.0.1:${port}` };
}

function metadataAt(t: Test, endpoint: string, timeoutMs = 2_000): InstanceMetadata {
  const metadata = new InstanceMetadata(endpoint, timeoutMs);
  t.teardown(() => metadata.close());
  return metadata;
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
  const { port, asked } = await given(t, {
    server: https.createServer({ cert, key: readFileSync(`${folder}/key.pem`) }) as unknown as http.Server, // it has all that is used of one
  });
  const endpoint = `https://127.0.0.1:${port}`;
  await t.rejects(metadataAt(t, endpoint).get("/latest/x"), /self-signed/);
  t.same(asked, [], "nothing was said to it");
  const before = tls.getCACertificates("default");
  tls.setDefaultCACertificates([cert]);
  t.teardown(() => tls.setDefaultCACertificates(before));
  t.match(await metadataAt(t, endpoint).get("/latest/x"), { status: 200, body: "page" });
  t.same(asked, ["PUT /latest/api/token", "GET /latest/x"]);
  await t.rejects(
    metadataAt(t, `http://127.0.0.1:${port}`).get("/latest/x"),
    "clear text is not understood there",
  );
});

for (const [what, token] of [
  ["an empty body", (_, res) => res.end("")],
  ["a page", (_, res) => res.end("<html>Sign in</html>")],
  ["a line too much", (_, res) => res.end("token\r\nx-forwarded-for: 1.2.3.4")],
  ["a letter that no header takes", (_, res) => res.end("tok\u00e9n")],
  ["a megabyte", (_, res) => res.end("x".repeat(1_000_000))],
  ["404, as from before IMDSv2", (_, res) => res.writeHead(404).end()],
  ["405", (_, res) => res.writeHead(405).end()],
  ["403, turned off", (_, res) => res.writeHead(403).end()],
  ["a redirect", (_, res) => res.writeHead(307, { Location: "/latest/other" }).end()],
] satisfies [string, Answer][]) {
  t.test(`a token answer of ${what}: the host's credentials are not asked for`, async (t) => {
    const { endpoint, asked } = await given(t, { token });
    await t.rejects(metadataAt(t, endpoint).get("/latest/meta-data/iam/security-credentials/"));
    t.same(asked, ["PUT /latest/api/token"]);
  });
}

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
    const { endpoint } = await given(t, { page });
    const started = performance.now();
    await t.rejects(metadataAt(t, endpoint, 200).get("/latest/x"), /no whole answer in 200 ms/);
    t.ok(performance.now() - started < 1_500);
  });
}

/** A service whose keys expire at `expiration`, by its own clock. */
function keysPage(expiration: () => string | undefined, serviceNow: () => number): Answer {
  return (req, res) => {
    res.setHeader("Date", new Date(serviceNow()).toUTCString());
    if (req.url?.endsWith("/security-credentials/")) return res.end("host");
    const keys = { Code: "Success", AccessKeyId: "ASIA", SecretAccessKey: "s", Token: "t" };
    return res.end(JSON.stringify({ ...keys, Expiration: expiration() }));
  };
}

const hour = 3_600_000;
for (const [what, leftMs, expected] of [
  ["two hours to live", 2 * hour, 2 * hour],
  ["an end in the past", -hour, -hour],
  ["ten years to live", 87_600 * hour, 6 * hour],
  ["no expiration", undefined, 6 * hour],
] as const) {
  t.test(`host credentials with ${what} are measured by the service's clock`, async (t) => {
    const serviceNow = () => 1_700_000_000_000;
    const expiration = () =>
      leftMs === undefined ? undefined : new Date(serviceNow() + leftMs).toISOString();
    const { endpoint, asked } = await given(t, { page: keysPage(expiration, serviceNow) });
    let now = 5_000_000;
    const host = new HostCredentials({
      metadataEndpoint: endpoint,
      environmentKeys: undefined,
      timeoutMs: 1_000,
      now: () => now,
      wallNow: () => 0,
    });
    t.teardown(() => host.close());
    const keys = await host.current();
    t.ok(Math.abs((keys.expiresAt ?? 0) - now - expected) < 2_000);
    const reads = asked.length;
    for (let time = 0; time < 100; time++) {
      now += 100;
      await host.current();
    }
    t.ok(asked.length - reads <= 4, `${asked.length - reads} requests in 10 s`);
    t.equal(/expired \d+ s ago/.test(host.complaint(keys)), expected < 0);
  });
}

for (const region of ["eu-west-1.evil.example/", "a b", "", "<html>", "169.254.169.254"]) {
  t.test(`a region of ${JSON.stringify(region)} does not become a part of STS's name`, async (t) => {
    const { endpoint } = await given(t, { page: (_, res) => res.end(region) });
    const host = new HostCredentials({
      metadataEndpoint: endpoint,
      environmentKeys: undefined,
      timeoutMs: 1_000,
      now: Date.now,
      wallNow: Date.now,
    });
    t.teardown(() => host.close());
    await t.rejects(host.region(), { code: "HostCredentialsUnavailable" });
  });
}
