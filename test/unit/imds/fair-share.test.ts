import t from "tap";
import { ask, requestText, wire } from "../../support/raw-http.ts";
import { db, proxyFixture, web } from "./fixture.ts";
import { until } from "./until.ts";

const ok = requestText("GET", "/latest/meta-data/instance-id");
const open = { config: { httpTokens: "optional" } };

t.test("a container that exceeds its connections gets 503, and another one is not affected", async (t) => {
  const proxy = await proxyFixture(t, { config: { ...open.config, limits: { connections: 5 } } });
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
  "a container that sends bodies is not read from for a time in proportion, and others are",
  async (t) => {
    const proxy = await proxyFixture(t, open);
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

t.test(
  "when file descriptors run out, the container with most gives one up for one that has few",
  async (t) => {
    const proxy = await proxyFixture(t, { ...open, descriptors: 20 });
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
  },
);

t.test("a client that pipelines too deep is cut off and waits, and the others do not", async (t) => {
  const proxy = await proxyFixture(t, open);
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
  const proxy = await proxyFixture(t, open);
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
