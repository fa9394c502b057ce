import { execFile } from "node:child_process";
import { once } from "node:events";
import {
  createServer as createHttpServer,
  type IncomingMessage,
  request,
  type ServerResponse,
} from "node:http";
import { type AddressInfo, createServer as createTcpServer, type Socket } from "node:net";
import { promisify } from "node:util";
import t, { type Test } from "tap";
import { type ForwardResult, Upstream, type UpstreamOptions } from "../../../src/imds/upstream.ts";
import { MetadataClient } from "../../../src/metadata/client.ts";

type Seen = { readonly method: string; readonly url: string; readonly headers: readonly string[] };
type Reply = { readonly status: number; readonly headers: IncomingMessage["headers"]; readonly body: string };

const token = `AQA${"x".repeat(51)}==`;
const placement = "/latest/meta-data/placement/region";
const spot = "/latest/meta-data/spot/instance-action";

/** A service on loopback; `answer` handles everything but the token. */
async function service(
  t: Test,
  answer: (request: IncomingMessage, response: ServerResponse, nth: number) => void,
  issue = issueToken,
) {
  const seen: Seen[] = [];
  const sockets = new Set<Socket>();
  const server = createHttpServer((request, response) => {
    seen.push({ method: request.method ?? "", url: request.url ?? "", headers: request.rawHeaders });
    if (request.method === "PUT") issue(response, seen.filter(({ method }) => method === "PUT").length);
    else answer(request, response, seen.filter(({ method }) => method !== "PUT").length);
  });
  server.on("connection", (socket) => sockets.add(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  const puts = () => seen.filter(({ method }) => method === "PUT").length;
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    sockets,
    puts,
    gets: () => seen.length - puts(),
  };
}

function issueToken(response: ServerResponse, nth: number): void {
  response.writeHead(200, { "X-Aws-Ec2-Metadata-Token-Ttl-Seconds": "21600" }).end(`${token}${nth}`);
}

/** The proxy's side: forwards requests as the handler does. `ask` is a container. */
async function proxy(t: Test, { endpoint, ...options }: Partial<UpstreamOptions> & { endpoint: string }) {
  const metadata = new MetadataClient({ endpoint, now: options.now ?? Date.now });
  const upstream = new Upstream({
    metadata,
    cacheSeconds: 60,
    requestsPerSecond: 10_000,
    now: Date.now,
    timeoutMs: 2000,
    ...options,
  });
  /** With the status that was sent. */
  const results: (ForwardResult & { readonly status: number })[] = [];
  const server = createHttpServer(async (request, response) => {
    const { range } = request.headers;
    const method = request.method === "HEAD" ? "HEAD" : "GET";
    const result = await upstream.forward(
      {
        method,
        path: request.url ?? "",
        range,
        tokenSecondsLeft: 77,
        container: String(request.socket.remotePort),
      },
      response,
    );
    results.push({ ...result, status: response.statusCode });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  t.teardown(() => {
    upstream.close();
    metadata.close();
    server.close();
    server.closeAllConnections();
  });
  return {
    upstream,
    results,
    port,
    ask: (path: string, headers = {}, method = "GET") => ask(port, path, headers, method),
  };
}

function ask(port: number, path: string, headers: Record<string, string>, method: string): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const asking = request({ port, host: "127.0.0.1", path, headers, method, agent: false }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on("data", (chunk: Buffer) => chunks.push(chunk));
      answer.on("error", reject);
      answer.on("end", () =>
        resolve({
          status: answer.statusCode ?? 0,
          headers: answer.headers,
          body: Buffer.concat(chunks).toString("latin1"),
        }),
      );
    });
    asking.on("error", reject);
    asking.end();
  });
}

t.test("the real service gets its own token and no header of the container's request", async (t) => {
  const imds = await service(t, (_, response) => {
    response.writeHead(200, {
      "Content-Type": "text/plain",
      "X-Aws-Ec2-Metadata-Token-Ttl-Seconds": "21000",
      "Set-Cookie": "a=b",
      "Last-Modified": "Sun, 22 Nov 2026 00:00:00 GMT",
      "Accept-Ranges": "none",
      "Keep-Alive": "timeout=9",
      Via: "x",
    });
    response.end("eu-west-1");
  });
  const { ask } = await proxy(t, imds);
  const hop = {
    "X-Forwarded-For": "10.0.0.1",
    Via: "1.1 x",
    "X-aws-ec2-metadata-token": "mine",
    "X-aws-ec2-metadata-token-ttl-seconds": "5",
    Cookie: "c",
    Authorization: "d",
    TE: "trailers",
    Range: "bytes=0-1",
  };
  const reply = await ask(placement, hop);
  t.match(reply, { status: 200, body: "eu-west-1" });
  t.same(Object.keys(reply.headers).sort(), [
    "accept-ranges",
    "connection",
    "content-length",
    "content-type",
    "date",
    "last-modified",
    "server",
    "x-aws-ec2-metadata-token-ttl-seconds",
  ]);
  t.match(reply.headers, {
    server: "EC2ws",
    "content-length": "9",
    "x-aws-ec2-metadata-token-ttl-seconds": "77",
  });
  const [put, get] = imds.seen;
  t.match(put, { method: "PUT", url: "/latest/api/token" });
  t.same(get, {
    method: "GET",
    url: placement,
    headers: [
      "Host",
      new URL(imds.endpoint).host,
      "Accept",
      "*/*",
      "X-aws-ec2-metadata-token",
      `${token}1`,
      "Connection",
      "keep-alive",
    ],
  });
});

t.test("HEAD is answered with the length and no body", async (t) => {
  const imds = await service(t, (_, response) =>
    response.writeHead(200, { "Content-Length": "9" }).end("eu-west-1"),
  );
  const { ask } = await proxy(t, imds);
  for (const path of [placement, "/latest/user-data"])
    t.match(await ask(path, {}, "HEAD"), { status: 200, body: "", headers: { "content-length": "9" } }, path);
});

t.test("a thousand concurrent requests cost one token and one request to the service", async (t) => {
  const imds = await service(t, (_, response) => setTimeout(() => response.end("eu-west-1"), 50));
  const { ask } = await proxy(t, imds);
  const replies = await Promise.all(Array.from({ length: 1000 }, () => ask(placement)));
  t.ok(replies.every(({ status, body }) => status === 200 && body === "eu-west-1"));
  t.equal(imds.puts(), 1);
  t.equal(imds.gets(), 1);
});

t.test("what does not change is cached, a 404 for seconds, and the rest not at all", async (t) => {
  let now = 0;
  const imds = await service(t, (request, response, nth) => {
    response.statusCode = request.url?.endsWith("/host-id") ? 404 : 200;
    response.end(String(nth));
  });
  const { ask, results } = await proxy(t, { ...imds, now: () => now });
  const cost = async (path: string) => {
    const before = imds.gets();
    await ask(path);
    return imds.gets() - before;
  };
  t.equal(await cost(placement), 1);
  now = 59_999;
  t.equal(await cost(placement), 0);
  t.match(results.at(-1), { ok: true, status: 200 });
  now = 60_000;
  t.equal(await cost(placement), 1, "asked again after a minute");
  t.equal(await cost("/latest/meta-data/placement/host-id"), 1);
  t.equal(await cost("/latest/meta-data/placement/host-id"), 0);
  now += 5000;
  t.equal(await cost("/latest/meta-data/placement/host-id"), 1, "a 404 is asked again after five seconds");
  for (const path of [
    spot,
    "/latest/meta-data/events/maintenance/scheduled",
    "/latest/meta-data/instance-action",
    "/latest/meta-data/public-ipv4",
    "/latest/meta-data/tags/instance/Name",
    "/latest/user-data",
    "/latest/dynamic/instance-identity/document",
  ]) {
    t.equal(await cost(path), 1, path);
    t.equal(await cost(path), 1, `${path} again`);
  }
});

t.test("with cacheSeconds 0 nothing is cached", async (t) => {
  const imds = await service(t, (_, response) => response.end("x"));
  const { ask } = await proxy(t, { ...imds, cacheSeconds: 0 });
  await ask(placement);
  await ask(placement);
  t.equal(imds.gets(), 2);
});

t.test("a token that the service refuses is replaced once", async (t) => {
  const imds = await service(t, (request, response) => {
    response.statusCode = request.headers["x-aws-ec2-metadata-token"] === `${token}1` ? 401 : 200;
    response.end("x");
  });
  const { ask } = await proxy(t, imds);
  t.match(await ask(spot), { status: 200, body: "x" });
  t.match(await ask(spot), { status: 200, body: "x" });
  t.equal(imds.puts(), 2);
  t.equal(imds.gets(), 3);
});

t.test("a service that refuses every token is 503 to the container, not 401", async (t) => {
  const imds = await service(t, (_, response) => response.writeHead(401).end("secret detail"));
  const { ask } = await proxy(t, imds);
  const reply = await ask(spot);
  t.equal(reply.status, 503);
  t.notMatch(reply.body, /secret/);
  t.equal(imds.gets(), 2);
});

t.test("the token is renewed before it expires, and is used meanwhile", async (t) => {
  let now = 0;
  const imds = await service(t, (_, response) => response.end("x"));
  const { ask } = await proxy(t, { ...imds, now: () => now });
  await ask(spot);
  now = 21_600_000 - 5 * 60_000;
  await ask(spot);
  t.equal(
    imds.seen.findLast(({ method }) => method === "GET")?.headers[5],
    `${token}1`,
    "the old one is used",
  );
  t.equal(imds.puts(), 2);
  await ask(spot);
  t.equal(imds.seen.findLast(({ method }) => method === "GET")?.headers[5], `${token}2`);
  now += 21_600_000;
  await ask(spot);
  t.equal(
    imds.seen.findLast(({ method }) => method === "GET")?.headers[5],
    `${token}3`,
    "an expired one is not used",
  );
});

t.test("a service without IMDSv2 is asked without a token", async (t) => {
  const imds = await service(
    t,
    (_, response) => response.end("x"),
    (response) => response.writeHead(404).end(),
  );
  const { ask } = await proxy(t, imds);
  t.match(await ask(spot), { status: 200, body: "x" });
  await ask(spot);
  t.notOk(imds.seen.at(-1)?.headers.some((header) => /token/i.test(header)));
  t.equal(imds.puts(), 1);
});

t.test("a disabled service gives no token, and the container gets 503", async (t) => {
  const imds = await service(
    t,
    (_, response) => response.end("x"),
    (response) => response.writeHead(403).end(),
  );
  const { ask, results, upstream } = await proxy(t, imds);
  t.equal((await ask(spot)).status, 503);
  t.match(results.at(-1), {
    ok: false,
    status: 503,
    code: "upstream",
    reason: /session token: it answered 403/,
  });
  await t.rejects(upstream.text(placement), { message: /it answered 403/ });
  t.equal(imds.gets(), 0);
});

t.test("the service's errors become the proxy's own pages", async (t) => {
  for (const [theirs, ours] of [
    [400, 400],
    [403, 403],
    [404, 404],
    [429, 429],
    [500, 500],
    [503, 503],
    [418, 502],
    [204, 502],
    [304, 502],
  ] as const) {
    const imds = await service(t, (_, response) =>
      response
        .writeHead(theirs, { "X-Secret": "1" })
        .end(theirs === 204 || theirs === 304 ? undefined : "detail"),
    );
    const { ask } = await proxy(t, imds);
    for (const path of [spot, "/latest/user-data"])
      await t.test(`${theirs} on ${path} becomes ${ours}`, async (t) => {
        const reply = await ask(path);
        t.equal(reply.status, ours);
        t.notMatch(reply.body, /detail/);
        t.equal(reply.headers["x-secret"], undefined);
      });
  }
});

t.test("no redirect is followed; only one to the same path with a slash is passed on", async (t) => {
  const elsewhere = await service(t, (_, response) => response.end("stolen"));
  const cases: readonly [location: string, status: number, passed: string | undefined][] = [
    [`${elsewhere.endpoint}/x`, 502, undefined],
    ["/latest/meta-data/iam/security-credentials/", 502, undefined],
    ["//evil/latest/meta-data/spot", 502, undefined],
    ["http://169.254.169.254/latest/meta-data/spot/", 301, "/latest/meta-data/spot/"],
    ["/latest/meta-data/spot/", 301, "/latest/meta-data/spot/"],
  ];
  for (const [location, status, passed] of cases)
    await t.test(`a redirect to ${location} becomes ${status}`, async (t) => {
      const imds = await service(t, (_, response) => response.writeHead(301, { Location: location }).end());
      const { ask } = await proxy(t, imds);
      const reply = await ask("/latest/meta-data/spot");
      t.equal(reply.status, status);
      t.equal(reply.headers.location, passed);
    });
  t.equal(elsewhere.seen.length, 0);
});

t.test("user-data is streamed, also as partial content", async (t) => {
  const data = Buffer.alloc(200_000, "0123456789");
  const imds = await service(t, (request, response) => {
    if (request.headers.range === "bytes=10-19") {
      response
        .writeHead(206, { "Content-Range": "bytes 10-19/200000", "Content-Length": "10" })
        .end("0123456789");
      return;
    }
    response.writeHead(200, {
      "Content-Type": "application/octet-stream",
      "Accept-Ranges": "bytes",
      "Content-Length": String(data.length),
    });
    response.end(data);
  });
  const { ask, results } = await proxy(t, imds);
  const whole = await ask("/latest/user-data");
  t.match(whole, {
    status: 200,
    headers: {
      "content-type": "application/octet-stream",
      "accept-ranges": "bytes",
      "content-length": "200000",
    },
  });
  t.ok(whole.body === data.toString("latin1"));
  t.match(results.at(-1), { ok: true, status: 200 });
  t.match(await ask("/latest/user-data", { Range: "bytes=10-19" }), {
    status: 206,
    body: "0123456789",
    headers: { "content-range": "bytes 10-19/200000" },
  });
});

t.test("an answer that is too long, cut short or never ends is not passed on", async (t) => {
  const cases: readonly [string, string, (response: ServerResponse) => void][] = [
    [
      "declares too much",
      "/latest/user-data",
      (response) => response.writeHead(200, { "Content-Length": "9000000" }).write("x"),
    ],
    [
      "declares too much",
      spot,
      (response) => response.writeHead(200, { "Content-Length": "9000000" }).write("x"),
    ],
    [
      "sends too much",
      "/latest/user-data",
      (response) => response.writeHead(200).end(Buffer.alloc(2_000_000)),
    ],
    ["sends too much", spot, (response) => response.writeHead(200).end(Buffer.alloc(2_000_000))],
    [
      "is cut short",
      spot,
      (response) => response.writeHead(200, { "Content-Length": "100" }).write("x", () => response.destroy()),
    ],
    [
      "is cut short",
      "/latest/user-data",
      (response) => response.writeHead(200, { "Content-Length": "100" }).write("x", () => response.destroy()),
    ],
    ["stops", spot, (response) => response.writeHead(200, { "Content-Length": "100" }).write("x")],
  ];
  for (const [name, path, answer] of cases)
    await t.test(`an answer for ${path} that ${name} becomes 502`, async (t) => {
      const imds = await service(t, (_, response) => answer(response));
      const { ask, results } = await proxy(t, { ...imds, timeoutMs: 300 });
      t.equal((await ask(path)).status, 502);
      t.match(results.at(-1), { ok: false, status: 502, code: "upstream-invalid", reason: /.+/ });
    });
  for (const ending of [(response: ServerResponse) => response.destroy(), () => undefined]) {
    const imds = await service(t, (_, response) =>
      response
        .writeHead(200, { "Content-Length": "100000" })
        .write(Buffer.alloc(70_000), () => ending(response)),
    );
    const { ask } = await proxy(t, { ...imds, timeoutMs: 300 });
    await t.rejects(
      ask("/latest/user-data"),
      "a long answer that is cut short is cut short for the container too",
    );
  }
});

t.test("a service that is silent, gone, or does not speak HTTP becomes 503, in time", async (t) => {
  const silent = await service(t, () => undefined);
  const tokenless = await service(
    t,
    () => undefined,
    () => undefined,
  );
  const garbage = createTcpServer((socket) => socket.resume().end("no HTTP\r\n\r\n"));
  garbage.listen(0, "127.0.0.1");
  await once(garbage, "listening");
  const { port } = garbage.address() as AddressInfo;
  for (const [name, endpoint] of [
    ["silent", silent.endpoint],
    ["without a token", tokenless.endpoint],
    ["not HTTP", `http://127.0.0.1:${port}`],
  ] as const) {
    await t.test(`a service that is ${name} becomes 503`, async (t) => {
      const { ask, results } = await proxy(t, { endpoint, timeoutMs: 200 });
      for (const path of [spot, "/latest/user-data"]) t.equal((await ask(path)).status, 503, path);
      t.match(results.at(-1), { reason: /^asking the metadata service at 127\.0\.0\.1:\d+ for \/latest/ });
    });
  }
  garbage.close();
  await once(garbage, "close");
  const { ask, upstream } = await proxy(t, { endpoint: `http://127.0.0.1:${port}` });
  t.equal((await ask(spot)).status, 503, "gone");
  await t.rejects(upstream.text(placement), { message: /asking the metadata service/ });
});

t.test("when the container closes its connection, the request to the service is aborted", async (t) => {
  const imds = await service(t, () => undefined);
  const { port, upstream } = await proxy(t, { ...imds, timeoutMs: 30_000 });
  const asking = request({ port, host: "127.0.0.1", path: "/latest/user-data", agent: false });
  asking.on("error", () => undefined);
  asking.end();
  while (imds.gets() === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const closed = Promise.all([...imds.sockets].map((socket) => socket.closed || once(socket, "close")));
  asking.destroy();
  await closed;
  t.pass("its connection was closed");
  upstream.close();
});

t.test("a service that closes each connection and sends no length is understood", async (t) => {
  const server = createTcpServer((socket) => {
    socket.on("error", () => undefined);
    socket.once("data", (request) =>
      socket.end(
        `HTTP/1.0 200 OK\r\nServer: EC2ws\r\n\r\n${request.toString().startsWith("PUT") ? token : "eu-west-1"}`,
      ),
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => server.close());
  const { ask } = await proxy(t, { endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
  for (const path of [placement, "/latest/user-data"])
    t.match(await ask(path), { status: 200, body: "eu-west-1", headers: { "content-length": "9" } });
});

t.test("an idle connection that the service has closed is no failure", async (t) => {
  let connections = 0;
  const server = createTcpServer((socket) => {
    connections++;
    let requests = 0;
    socket.on("error", () => undefined);
    socket.on("data", (request) => {
      // The second request on each connection is reset.
      if (requests++ > 0) return socket.resetAndDestroy();
      const body = request.toString().startsWith("PUT") ? token : "x";
      return socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => server.close());
  const { ask } = await proxy(t, { endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
  for (let nth = 0; nth < 5; nth++) t.match(await ask(spot), { status: 200, body: "x" });
  t.ok(connections > 1);
});

t.test("connections to the service are few, and are reused", async (t) => {
  const imds = await service(t, (_, response) => setTimeout(() => response.end("x"), 2));
  const { ask } = await proxy(t, imds);
  for (let round = 0; round < 3; round++)
    await Promise.all(Array.from({ length: 100 }, () => ask("/latest/user-data")));
  t.equal(imds.gets(), 300);
  t.ok(imds.sockets.size <= 32, `${imds.sockets.size} connections`);
});

t.test(
  "no path is forwarded but a metadata path in its canonical form, whatever mistake the caller makes",
  async (t) => {
    const imds = await service(t, (_, response) => response.end("x"));
    const { ask, results, upstream } = await proxy(t, imds);
    for (const path of [
      "/latest/meta-data/iam/security-credentials/r",
      "/latest/meta-data/iam/info",
      "/latest/meta-data//ami-id",
      "/latest/meta-data/ami%2did",
      "/latest/api/token",
      "/latest/meta-data/",
      "/latest/meta-data/identity-credentials/ec2/info",
      "/x",
    ]) {
      t.equal((await ask(path)).status, 500, path);
      t.match(results.at(-1), { ok: false, code: "internal", reason: /refusing to forward/ });
    }
    for (const path of ["/latest/meta-data/iam/info", "/latest/meta-data", "/latest//", "http://x/"])
      await t.rejects(upstream.text(path), { message: /canonical/ }, path);
    t.equal(imds.seen.length, 0);
  },
);

t.test("texts that the proxy reads itself share the cache with forwarded ones", async (t) => {
  const imds = await service(t, (request, response) => {
    if (request.url === "/latest/dynamic") response.writeHead(301, { Location: "/latest/dynamic/" }).end();
    else if (request.url === placement) response.end("eu-west-1");
    else if (request.url?.endsWith("/")) response.end("a\nb/");
    else response.writeHead(404).end();
  });
  const { upstream, ask } = await proxy(t, imds);
  t.equal(await upstream.text(placement), "eu-west-1");
  t.equal((await ask(placement)).body, "eu-west-1");
  t.equal(imds.gets(), 1);
  t.equal(await upstream.text("/latest/meta-data/placement/host-id"), undefined);
  t.equal(await upstream.text("/"), "a\nb/");
  t.equal(await upstream.text("/latest/meta-data/"), "a\nb/");
  t.equal(await upstream.text("/latest/dynamic"), "a\nb/", "a directory without its slash");
});

t.test("HTTP_PROXY and its like in the environment are ignored", async (t) => {
  const imds = await service(t, (_, response) => response.end("eu-west-1"));
  const trap = await service(t, (_, response) => response.end("trapped"));
  const script = `import { Upstream } from ${JSON.stringify(new URL("../../../src/imds/upstream.ts", import.meta.url).href)};
    import { MetadataClient } from ${JSON.stringify(new URL("../../../src/metadata/client.ts", import.meta.url).href)};
    const metadata = new MetadataClient({ endpoint: ${JSON.stringify(imds.endpoint)}, now: Date.now });
    const upstream = new Upstream({ metadata, cacheSeconds: 0, requestsPerSecond: 100, now: Date.now });
    console.log(await upstream.text("${placement}"));
    upstream.close();
    metadata.close();`;
  const env = {
    ...process.env,
    NODE_USE_ENV_PROXY: "1",
    HTTP_PROXY: trap.endpoint,
    http_proxy: trap.endpoint,
    ALL_PROXY: trap.endpoint,
    NO_PROXY: "",
    no_proxy: "",
    NODE_OPTIONS: "",
  };
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script], {
    env,
  });
  t.equal(stdout, "eu-west-1\n");
  t.equal(trap.seen.length, 0);
});
