import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { ask, requestText, wire } from "../../support/raw-http.ts";
import { db, givenProxy, listPath, tokenPath, web } from "./given.ts";

const tokenHeader = "X-aws-ec2-metadata-token";
const ok = requestText("GET", "/latest/meta-data/instance-id");
const open = { config: { httpTokens: "optional" } };

t.test("a container can have so many connections and no more, and another's are not touched", async (t) => {
  const proxy = await givenProxy(t, { config: { ...open.config, limits: { connections: 5 } } });
  const held = Array.from({ length: 5 }, () => wire(proxy.port));
  for (const one of held) {
    one.write(ok);
    t.equal((await one.answer())?.status, 200);
  }
  const refused = await Promise.all(
    Array.from({ length: 3 }, async () => {
      using over = wire(proxy.port);
      over.write(ok);
      return await over.answer();
    }),
  );
  t.same(refused, [undefined, undefined, undefined], "the sixth is closed without a word");
  t.equal(
    (await ask({ port: proxy.port, from: db.address }, "GET", "/latest/meta-data/instance-id")).status,
    200,
  );
  held[0]?.socket.destroy();
  await until(() => proxy.imds.connections() === 4);
  t.equal(
    (await ask({ port: proxy.port }, "GET", "/latest/meta-data/instance-id")).status,
    200,
    "one that closes makes room",
  );
  for (const one of held) one.socket.destroy();
});

t.test(
  "what is no request of a metadata client is answered 400 or not at all, and the connection ends",
  async (t) => {
    const proxy = await givenProxy(t, open);
    const long = "x".repeat(16 * 1024);
    const cases: readonly [what: string, bytes: string, status: RegExp][] = [
      ["CONNECT", "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\n\r\n", /^HTTP\/1.1 400 /],
      [
        "an upgrade to WebSocket",
        `${ok.slice(0, -2)}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
        /^HTTP\/1.1 400 /,
      ],
      [
        "an upgrade to HTTP/2",
        `${ok.slice(0, -2)}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n`,
        /^HTTP\/1.1 400 /,
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
    for (const [what, bytes, expected] of cases) {
      using one = wire(proxy.port);
      one.write(bytes);
      t.match(await one.closed(), expected, what);
    }
    t.equal(
      (await ask({ port: proxy.port }, "GET", "/latest/meta-data/instance-id")).status,
      200,
      "and the next is served",
    );
  },
);

t.test("the rest of a broken exchange does not become another's answer", async (t) => {
  const proxy = await givenProxy(t, open);
  using one = wire(proxy.port);
  // The body of the first looks like a request; it is a body.
  const inner = requestText("GET", "/latest/meta-data/instance-id");
  one.write(
    `${requestText("PUT", tokenPath, [`Content-Length: ${inner.length}`, `${tokenHeader}-ttl-seconds: 60`])}${inner}`,
  );
  t.match((await one.answer())?.body, /^AQA/);
  one.write(requestText("GET", listPath));
  t.equal((await one.answer())?.body, "Web", "the next answer is the next request's");
});

t.test(
  "a request that does not arrive is given up after seconds; a connection between requests is kept",
  { timeout: 30_000 },
  async (t) => {
    const proxy = await givenProxy(t, open);
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
  "stopping answers what is in progress, tells clients to come again, and ends in time whatever they do",
  async (t) => {
    const proxy = await givenProxy(t, open);
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
  "a connection whose first request has not been read yet is answered, not reset, when we stop",
  async (t) => {
    const proxy = await givenProxy(t, open);
    using fresh = wire(proxy.port);
    await until(() => proxy.imds.connections() === 1);
    const drained = proxy.imds.drain(2_000);
    fresh.write(ok);
    const answer = await fresh.answer();
    t.same([answer?.status, answer?.header("connection")], [200, "close"]);
    await drained;
  },
);

t.test("a client that pipelines without end is cut off and waits, and the others do not", async (t) => {
  const proxy = await givenProxy(t, open);
  using deep = wire(proxy.port);
  deep.write(ok.repeat(500));
  const said = await deep.closed();
  t.ok(said.split("HTTP/1.1 200").length - 1 <= 24, "no more than 24 answers");
  const waits = ask({ port: proxy.port }, "GET", "/latest/meta-data/instance-id");
  const first = await Promise.race([
    waits.then(() => "the one that was cut off"),
    ask({ port: proxy.port, from: db.address }, "GET", "/latest/meta-data/instance-id").then(
      () => "the other",
    ),
  ]);
  t.equal(first, "the other");
  t.equal((await waits).status, 200, "after its penalty it is served again");
});

t.test("a client with very many busy connections gets all its answers, and so does another", async (t) => {
  const proxy = await givenProxy(t, open);
  const many = Array.from({ length: 400 }, () => wire(proxy.port));
  await until(() => proxy.imds.connections() === 400);
  for (let round = 0; round < 3; round++) {
    for (const one of many) one.write(ok.repeat(2));
    const other = await ask({ port: proxy.port, from: db.address }, "GET", "/latest/meta-data/instance-id");
    t.equal(other.status, 200);
    const answers = await Promise.all(many.flatMap((one) => [one.answer(), one.answer()]));
    t.ok(answers.every((answer) => answer?.status === 200));
  }
  for (const one of many) one.socket.destroy();
});

t.test("a client that asks for a tunnel and resets the connection ends nothing but its own", async (t) => {
  const proxy = await givenProxy(t, open);
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

t.test("clients that go away in the middle leave nothing behind", async (t) => {
  const proxy = await givenProxy(t, open);
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

async function until(holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error("it did not come to be within 10 s");
    await sleep(10);
  }
}
