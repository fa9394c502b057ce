import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { ask, requestText, wire } from "../../support/raw-http.ts";
import { db, engineContainer, givenProxy, listPath, tokenPath, web } from "./fixture.ts";

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
  t.same(
    refused.map((answer) => [answer?.status, answer?.header("retry-after"), answer?.header("connection")]),
    Array.from({ length: 3 }, () => [503, "1", "close"]),
    "the sixth is told to come again",
  );
  t.equal(proxy.lastRefusal()?.code, "too-many-connections");
  t.equal(proxy.lastRefusal()?.caller?.container.name, web.name);
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

t.test(
  "a request with a body ends its connection, and no byte of the body is taken for a request",
  async (t) => {
    const proxy = await givenProxy(t, open);
    const inner = requestText("GET", "/latest/meta-data/instance-id");
    const put = (...lines: readonly string[]) =>
      requestText("PUT", tokenPath, [`${tokenHeader}-ttl-seconds: 60`, ...lines]);
    const get = (...lines: readonly string[]) => requestText("GET", listPath, lines);
    const cases: readonly [what: string, bytes: string][] = [
      [
        "a token asked for with a body that looks like a request",
        `${put(`Content-Length: ${inner.length}`)}${inner}`,
      ],
      ["a token asked for with one byte", `${put("Content-Length: 1")}x`],
      ["a token asked for with one chunk", `${put("Transfer-Encoding: chunked")}1\r\nx\r\n0\r\n\r\n`],
      ["a token asked for with a trailer", `${put("Transfer-Encoding: chunked")}0\r\nX-Trailer: x\r\n\r\n`],
      ["a token asked for with chunks that do not come", put("Transfer-Encoding: chunked")],
      ["a token asked for with chunks that do not end", `${put("Transfer-Encoding: chunked")}0\r\n`],
      ["a token asked for with a length that is announced and not sent", put("Content-Length: 5")],
      ["credentials asked for with a body", `${get("Content-Length: 5")}hello`],
      ["credentials asked for with empty chunks", `${get("Transfer-Encoding: chunked")}0\r\n\r\n`],
      ["HEAD with a body", `${requestText("HEAD", listPath, ["Content-Length: 5"])}hello`],
      ["another coding", `${put("Transfer-Encoding: gzip, chunked")}0\r\n\r\n`],
      ["POST with a body", `${requestText("POST", tokenPath, ["Content-Length: 2"])}{}`],
    ];
    for (const [what, bytes] of cases) {
      using one = wire(proxy.port);
      one.write(`${bytes}${inner}`);
      const said = await one.closed();
      t.match(said, /^HTTP\/1.1 400 [\s\S]*Connection: close/, what);
      t.equal(said.split("HTTP/1.1 ").length, 2, `${what}: one answer and no more`);
      t.notMatch(said, /AQA|Web|i-/, `${what}: nothing is given`);
    }
    for (const [what, bytes, expected] of [
      ["a token asked for with a length of 0", put("Content-Length: 0"), /^AQA/],
      ["a token asked for with empty chunks", `${put("Transfer-Encoding: Chunked")}0\r\n\r\n`, /^AQA/],
      [
        "a token asked for with an extension on the empty chunk",
        `${put("Transfer-Encoding: chunked")}0;x=y\r\n\r\n`,
        /^AQA/,
      ],
      ["credentials asked for with a length of 0", get("Content-Length: 0"), /^Web$/],
    ] as const) {
      using one = wire(proxy.port);
      one.write(bytes);
      t.match((await one.answer())?.body, expected, what);
      one.write(inner);
      t.match((await one.answer())?.body, /^i-/, `${what}: and the connection is kept`);
    }
  },
);

t.test(
  "a body behind a request that waits for its answer ends the connection, and no answer is taken for another's",
  async (t) => {
    const proxy = await givenProxy(t, open);
    proxy.aws.sts.faults.set({ latencyMs: 300 });
    using one = wire(proxy.port);
    one.write(
      `${requestText("GET", `${listPath}Web`)}${requestText("GET", listPath, ["Content-Length: 5"])}hello`,
    );
    t.equal(await one.closed(), "");
  },
);

t.test(
  "nothing is answered past the limits: what Node would answer by itself ends its connection too",
  async (t) => {
    const proxy = await givenProxy(t, open);
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
    for (const [what, bytes] of cases) {
      using one = wire(proxy.port);
      one.write(bytes);
      const said = await one.closed();
      t.match(said, /^HTTP\/1.1 400 /, what);
      t.equal(said.split("HTTP/1.1 ").length, 2, `${what}: one answer, and the end`);
    }
  },
);

t.test("an answer that has no request is not written where another request's is awaited", async (t) => {
  const proxy = await givenProxy(t, open);
  proxy.aws.sts.faults.set({ latencyMs: 300 });
  const awaited = requestText("GET", `${listPath}Database`);
  for (const [what, bytes] of [
    ["a tunnel", "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\n\r\n"],
    ["garbage", "\0\x01\x02\xff\r\n\r\n"],
    ["an unknown expectation", requestText("GET", listPath, ["Expect: something"])],
    ["no Host", "GET / HTTP/1.1\r\n\r\n"],
  ] as const) {
    using one = wire(proxy.port, db.address);
    one.write(`${awaited}${bytes}`);
    t.equal(await one.closed(), "", what);
    proxy.credentials.release(`static:${db.address}`);
  }
});

t.test(
  "an address that sends bodies is not read from for a time in proportion, and others are",
  async (t) => {
    const proxy = await givenProxy(t, open);
    using guilty = wire(proxy.port);
    guilty.write(`${requestText("GET", "/", ["Transfer-Encoding: chunked"])}${"1\r\nx\r\n".repeat(40_000)}`);
    t.match(await guilty.closed(), /^HTTP\/1.1 400 |^$/);
    const began = performance.now();
    using next = wire(proxy.port);
    next.write(ok);
    t.equal(
      (await ask({ port: proxy.port, from: db.address }, "GET", "/latest/meta-data/instance-id")).status,
      200,
    );
    const other = performance.now() - began;
    t.equal((await next.answer())?.status, 200, "served in the end");
    const own = performance.now() - began;
    // The test's penalty for a read of 64 kB is 300 ms; a read has what the socket's buffer held.
    t.ok(own > other && own > 20, `waited ${own.toFixed(0)} ms, another container ${other.toFixed(0)} ms`);
  },
);

t.test("when descriptors run out, whoever has most gives one up for who has few", async (t) => {
  const proxy = await givenProxy(t, { ...open, descriptors: 20 });
  const greedy = Array.from({ length: 20 }, () => wire(proxy.port));
  for (const one of greedy) {
    one.write(ok);
    t.equal((await one.answer())?.status, 200);
  }
  for (let nth = 0; nth < 5; nth++) {
    using one = wire(proxy.port, db.address);
    one.write(ok);
    t.equal((await one.answer())?.status, 200, "the other container finds room");
    await until(() => greedy.filter(({ socket }) => socket.destroyed || socket.readableEnded).length >= 1);
  }
  using over = wire(proxy.port);
  over.write(ok);
  const alive = greedy.filter(({ socket }) => !socket.destroyed && !socket.readableEnded).length;
  t.ok(alive >= 15, `${alive} of the greedy one's are left: it was not cut below the others`);
  for (const one of greedy) one.socket.destroy();
});

t.test(
  "strangers have one budget together, and a container that is announced late finds a place in it",
  async (t) => {
    const late = engineContainer("11", "127.0.3.3", { labels: { "ec2metaproxy.RoleAlias": "web" } });
    const proxy = await givenProxy(t, {
      ...open,
      provenance: { check: async () => ({ proven: true }) },
      strangers: { total: 100, perAddress: 10 },
    });
    // 50 addresses, two connections each, half of which say nothing and half of which ask.
    const strangers = Array.from({ length: 100 }, (_, nth) => wire(proxy.port, `127.0.2.${1 + (nth % 50)}`));
    for (const [nth, one] of strangers.entries()) if (nth % 2 === 0) one.write(ok);
    await until(() => proxy.imds.connections() === 100);
    const asked = ask({ port: proxy.port, from: "127.0.3.3" }, "GET", listPath);
    setTimeout(() => proxy.directory.upsert("engine", late), 300);
    t.same([(await asked).status, (await asked).body], [200, "Web"], "announced 0.3 s late, and served");
    const known = await ask({ port: proxy.port, from: db.address }, "GET", listPath);
    t.equal(known.status, 200, "and who is known is served all the while");
    const said = await Promise.all(strangers.map((one) => one.closed()));
    const count = (status: string) => said.filter((text) => text.startsWith(`HTTP/1.1 ${status} `)).length;
    t.same([count("403"), count("503")], [99, 1], "the others wait for their word; one made room");
    t.ok(
      said.every((text) => /\r\nConnection: close\r\n/.test(text)),
      "each is told not to come again on this connection",
    );
    t.equal(proxy.aws.imds.requests.total, 0, "nothing of what they asked went on");
  },
);

t.test(
  "a stranger that has its places, and the next where all are taken, is told to come again",
  async (t) => {
    const proxy = await givenProxy(t, { ...open, strangers: { total: 4, perAddress: 2 } });
    const wait = (from: string) => wire(proxy.port, from);
    const first = [wait("127.0.2.1"), wait("127.0.2.1")];
    await until(() => proxy.imds.connections() === 2);
    const third = wait("127.0.2.1").closed();
    const others = [wait("127.0.2.2"), wait("127.0.2.3")];
    await until(() => proxy.imds.connections() === 5);
    const made = wait("127.0.2.4");
    await until(() => proxy.imds.connections() === 6);
    const none = wait("127.0.2.5").closed();
    t.match(await third, /^HTTP\/1.1 503 [\s\S]*Retry-After: 1/, "a third of one address");
    t.match(await first[1]?.closed(), /^HTTP\/1.1 503 /, "who has two makes room for who has none");
    t.match(await none, /^HTTP\/1.1 503 /, "where each has one, the newcomer has none");
    for (const one of [first[0], ...others, made]) t.match(await one?.closed(), /^HTTP\/1.1 403 /);
  },
);

t.test(
  "where strangers fill every place with an address each, who has waited long makes room, and all are told",
  async (t) => {
    const late = engineContainer("11", "127.0.3.3", { labels: { "ec2metaproxy.RoleAlias": "web" } });
    const proxy = await givenProxy(t, {
      ...open,
      provenance: { check: async () => ({ proven: true }) },
      strangers: { total: 20, perAddress: 5 },
      turnedAway: { total: 4, perShare: 2 },
    });
    const strangers = Array.from({ length: 20 }, (_, nth) => wire(proxy.port, `127.0.2.${1 + nth}`));
    await until(() => proxy.imds.connections() === 20);
    const early = await Promise.all(
      [40, 41, 42, 43, 44].map((last) => wire(proxy.port, `127.0.2.${last}`).closed()),
    );
    for (const said of early) t.match(said, /^HTTP\/1.1 503 /, "each is told, though few are waited for");
    await sleep(600);
    const asked = ask({ port: proxy.port, from: "127.0.3.3" }, "GET", listPath);
    setTimeout(() => proxy.directory.upsert("engine", late), 300);
    t.same([(await asked).status, (await asked).body], [200, "Web"], "a container finds a place");
    for (const one of strangers) one.socket.destroy();
  },
);

t.test(
  "a client that does not read its answers holds little, and not for long",
  { timeout: 40_000 },
  async (t) => {
    const proxy = await givenProxy(t, open);
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

async function until(holds: () => boolean, withinMs = 10_000): Promise<void> {
  const deadline = Date.now() + withinMs;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`it did not come to be within ${withinMs} ms`);
    await sleep(10);
  }
}
