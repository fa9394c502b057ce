import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { ask, requestText, wire } from "../../support/raw-http.ts";
import { db, listPath, proxyFixture, tokenPath, web } from "./fixture.ts";
import { until } from "./until.ts";

const ok = requestText("GET", "/latest/meta-data/instance-id");
const open = { config: { httpTokens: "optional" } };

t.test("what is not a metadata request is answered 400 or not at all, and the connection ends", async (t) => {
  const proxy = await proxyFixture(t, open);
  const long = "x".repeat(16 * 1024);
  const cases: readonly [what: string, bytes: string, status: RegExp][] = [
    ["CONNECT", "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\n\r\n", /^HTTP\/1.1 400 /],
    [
      "an upgrade to WebSocket",
      `${ok.slice(0, -2)}Connection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n`,
      // The request is answered as if it had not offered that.
      /^HTTP\/1.1 200 /,
    ],
    [
      "an upgrade to HTTP/2",
      `${ok.slice(0, -2)}Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n`,
      /^HTTP\/1.1 200 /,
    ],
    ["HTTP/2 with prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", /^HTTP\/1.1 400 /],
    ["HTTP/0.9, which the parser takes", "GET /latest/meta-data/\r\n\r\n", /^HTTP\/1.1 200 /],
    ["TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", /^HTTP\/1.1 400 /],
    ["garbage", "\0\x01\x02\xff\xfe\r\n\r\n", /^HTTP\/1.1 400 /],
    [
      "a header without a colon",
      "GET / HTTP/1.1\r\nHost: 169.254.169.254\r\nnonsense\r\n\r\n",
      /^HTTP\/1.1 400 /,
    ],
    [
      "a blank in the path, as CRT sends it",
      "GET /latest/meta-data/<?xml version HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n",
      /^HTTP\/1.1 400 /,
    ],
    ["a request without Host", "GET / HTTP/1.1\r\n\r\n", /^HTTP\/1.1 400 /],
    [
      "two lengths",
      "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
      /^HTTP\/1.1 400 /,
    ],
    [
      "a length and chunks (smuggling)",
      "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      /^HTTP\/1.1 400 /,
    ],
    [
      "headers over the limit",
      `GET / HTTP/1.1\r\nHost: 169.254.169.254\r\nX-Long: ${long}\r\n\r\n`,
      /^HTTP\/1.1 400 /,
    ],
    ["a path over the limit", `GET /${long} HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n`, /^HTTP\/1.1 400 /],
  ];
  for (const [what, bytes, expected] of cases)
    await t.test(`${what} gets ${expected}`, async (t) => {
      using one = wire(proxy.port);
      one.write(bytes);
      t.match(await one.closed(), expected);
    });
  t.equal(
    (await ask({ port: proxy.port }, "GET", "/latest/meta-data/instance-id")).status,
    200,
    "and the next is served",
  );
});

t.test("what Node would answer by itself counts against the limits and ends its connection", async (t) => {
  const proxy = await proxyFixture(t, open);
  const expecting = requestText("GET", listPath, ["Expect: something"]);
  const cases: readonly [what: string, bytes: string][] = [
    ["an unknown expectation", expecting],
    ["many of them", expecting.repeat(1_000)],
    ["one with a body", `${requestText("GET", listPath, ["Expect: x", "Content-Length: 5"])}hello`],
    [
      "one with chunks",
      `${requestText("PUT", tokenPath, ["Expect: x", "Transfer-Encoding: chunked"])}1\r\nx\r\n`,
    ],
    ["no Host", "GET / HTTP/1.1\r\n\r\n"],
    ["many without Host", "GET / HTTP/1.1\r\n\r\n".repeat(3_000)],
    ["no Host and chunks", "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"],
  ];
  for (const [what, bytes] of cases)
    await t.test(`${what}: one answer, and the end`, async (t) => {
      using one = wire(proxy.port);
      one.write(bytes);
      const text = await one.closed();
      t.match(text, /^HTTP\/1.1 400 /);
      t.equal(text.split("HTTP/1.1 ").length, 2);
    });
});

t.test("no answer without a request is sent while an earlier request waits for its answer", async (t) => {
  const proxy = await proxyFixture(t, open);
  proxy.aws.sts.faults.set({ latencyMs: 300 });
  const awaited = requestText("GET", `${listPath}Database`);
  for (const [what, bytes] of [
    ["a tunnel", "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\n\r\n"],
    ["garbage", "\0\x01\x02\xff\r\n\r\n"],
    ["an unknown expectation", requestText("GET", listPath, ["Expect: something"])],
    ["no Host", "GET / HTTP/1.1\r\n\r\n"],
  ] as const)
    await t.test(`${what} gets no answer`, async (t) => {
      using one = wire(proxy.port, db.address);
      one.write(`${awaited}${bytes}`);
      t.equal(await one.closed(), "");
      proxy.credentials.release(`static:${db.address}`);
    });
});

t.test(
  "a client that does not read its answers holds little memory, and not for long",
  { timeout: 40_000 },
  async (t) => {
    const proxy = await proxyFixture(t, open);
    using slow = wire(proxy.port);
    slow.socket.pause();
    // Twenty at a time, as a pipeline may have them, for as long as the proxy takes them.
    const batch = requestText("GET", "/latest/dynamic/instance-identity/document").repeat(20);
    const writing = setInterval(() => slow.socket.writableLength === 0 && slow.write(batch), 1);
    const before = process.memoryUsage().rss;
    await until(() => slow.socket.writableLength > 0 || slow.socket.destroyed, 20_000).catch(() => undefined);
    clearInterval(writing);
    t.ok(process.memoryUsage().rss - before < 100 * 1024 * 1024);
    await until(() => proxy.imds.connections() === 0, 30_000);
    t.pass("given up when nothing moved any more");
  },
);

t.test(
  "a request that does not arrive times out; an idle connection stays open",
  { timeout: 30_000 },
  async (t) => {
    const proxy = await proxyFixture(t, open);
    const halves = [
      "GET /latest/meta-data/ HTTP/1.1\r\nHost: 169",
      "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 10\r\n\r\n",
    ];
    using idle = wire(proxy.port);
    idle.write(ok);
    t.equal((await idle.answer())?.status, 200);
    const said = await Promise.all(
      halves.map(async (half) => {
        using one = wire(proxy.port);
        one.write(half);
        return await one.closed();
      }),
    );
    for (const text of said) t.match(text, /^(HTTP\/1.1 4|$)/);
    idle.write(ok);
    t.equal((await idle.answer())?.status, 200, "the idle one still serves");
    await until(() => proxy.imds.connections() === 1);
  },
);

t.test(
  "stopping answers requests in progress, makes clients reconnect, and ends in time whatever they do",
  async (t) => {
    const proxy = await proxyFixture(t, open);
    proxy.aws.sts.faults.set({ latencyMs: 300 });
    using busy = wire(proxy.port);
    using idle = wire(proxy.port);
    using half = wire(proxy.port);
    using tunnel = wire(proxy.port);
    idle.write(ok);
    t.equal((await idle.answer())?.status, 200);
    half.write("GET /latest/me");
    tunnel.socket.on("end", () => undefined);
    tunnel.write("CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n");
    busy.write(requestText("GET", `${listPath}Web`));
    await until(() => proxy.imds.connections() === 4);
    const started = Date.now();
    const drained = proxy.imds.drain(1_000);
    const answer = await busy.answer();
    t.equal(answer?.status, 200, "the request in progress is answered");
    t.equal(await idle.closed(), "", "an idle connection is closed");
    await drained;
    t.ok(Date.now() - started < 5_000, "a client that says nothing more does not hold the process");
    await until(() => proxy.imds.connections() === 0);
  },
);

t.test(
  "a connection whose first request has not been read yet is answered, not reset, when the proxy stops",
  async (t) => {
    const proxy = await proxyFixture(t, open);
    using fresh = wire(proxy.port);
    await until(() => proxy.imds.connections() === 1);
    const drained = proxy.imds.drain(2_000);
    fresh.write(ok);
    const answer = await fresh.answer();
    t.same([answer?.status, answer?.header("connection")], [200, "close"]);
    await drained;
  },
);

t.test("a client that requests a tunnel and resets the connection affects no other", async (t) => {
  const proxy = await proxyFixture(t, open);
  for (let round = 0; round < 200; round++) {
    const { socket } = wire(proxy.port);
    await once(socket, "connect");
    socket.write(
      round % 2 === 0
        ? "CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n"
        : `${ok.slice(0, -2)}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n`,
    );
    if (round % 3 !== 0) await sleep(round % 5);
    socket.write("more");
    socket.resetAndDestroy();
  }
  await until(() => proxy.imds.connections() === 0);
  t.equal((await ask({ port: proxy.port }, "GET", "/latest/meta-data/instance-id")).status, 200);
});

t.test("clients that disconnect during a request leave nothing behind", async (t) => {
  const proxy = await proxyFixture(t, open);
  proxy.aws.sts.faults.set({ latencyMs: 200 });
  const wires = Array.from({ length: 50 }, () => wire(proxy.port));
  for (const [nth, one] of wires.entries()) {
    one.write(requestText(nth % 3 === 0 ? "HEAD" : "GET", `${listPath}Web`));
    setTimeout(() => (nth % 2 === 0 ? one.socket.destroy() : one.socket.resetAndDestroy()), nth * 3);
  }
  await sleep(400);
  await until(() => proxy.imds.connections() === 0);
  t.equal((await ask({ port: proxy.port, from: web.address }, "GET", `${listPath}Web`)).status, 200);
  t.equal(proxy.aws.sts.counts().total, 1, "and STS was asked once");
});
