import { once } from "node:events";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { processStartedAt } from "../../../src/containers/proc.ts";
import { Provenance } from "../../../src/containers/provenance.ts";
import { ask, wire } from "../../support/raw-http.ts";
import { engineContainer, listPath, proxyFixture, stranger, tokenPath, web } from "./fixture.ts";

const tokenHeader = "X-aws-ec2-metadata-token";
const ttlHeader = "X-aws-ec2-metadata-token-ttl-seconds";

t.test("a caller that is no container gets 403, and IMDS is never asked", async (t) => {
  const proxy = await proxyFixture(t);
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

t.test("an address that two containers claim is refused until one of them is gone", async (t) => {
  const [one, two] = [engineContainer("aa", "127.0.0.20"), engineContainer("bb", "127.0.0.20")];
  const proxy = await proxyFixture(t, {
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

t.test("an address that two containers claim, while an engine cannot be reached, gets 503", async (t) => {
  const proxy = await proxyFixture(t, {
    containers: [engineContainer("aa", "127.0.0.20"), engineContainer("bb", "127.0.0.20")],
    complete: false,
  });
  const at = { port: proxy.port, from: "127.0.0.20" };
  const answer = await ask(at, "PUT", tokenPath, [`${ttlHeader}: 60`]);
  t.same([answer.status, answer.header("retry-after")], [503, "1"], "one of them may have stopped");
  t.equal(proxy.lastRefusal()?.code, "engine-unavailable");
});

t.test("a connection that is not the container's own gets neither token nor credentials", async (t) => {
  const victim = engineContainer("cc", "127.0.0.21");
  let proven = false;
  let checks = 0;
  const proxy = await proxyFixture(t, {
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
  t.test(`a token is refused with ${status} if the proof fails with ${code}`, async (t) => {
    const victim = engineContainer("cc", "127.0.0.21");
    const vias: string[] = [];
    const proxy = await proxyFixture(t, {
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

/** A proxy whose one container is this process, and which knows it only after `listed`. */
async function proxyOfThisProcess(t: Test, metadataAddress = "127.0.0.1") {
  const listed = Promise.withResolvers<void>();
  const pidStartedAt = (await processStartedAt("/proc", process.pid)) ?? 0;
  const container = { ...engineContainer("ee", "127.0.0.23"), pid: process.pid, pidStartedAt };
  const proxy = await proxyFixture(t, {
    listed: listed.promise,
    provenance: {
      // The real proof; on loopback the client connects to the proxy itself.
      check: (asked, connection, via) => {
        const metadata = [{ address: metadataAddress, port: connection.localPort }];
        return new Provenance({ metadata }).check(asked, connection, via);
      },
    },
    config: { defaultAlias: "web" },
  });
  const list = () => {
    proxy.directory.upsert("engine", container);
    listed.resolve();
  };
  return { proxy, list };
}

const request = `GET ${listPath} HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n`;

for (const [how, leave] of [
  ["closes its connection", (socket: Socket) => void socket.destroy()],
  ["resets its connection", (socket: Socket) => void socket.resetAndDestroy()],
] as const)
  t.test(`a client that ${how} before it is identified is no intruder`, async (t) => {
    const { proxy, list } = await proxyOfThisProcess(t);
    const { socket, write } = wire(proxy.port, "127.0.0.23");
    await once(socket, "connect");
    write(request);
    while (proxy.imds.connections() === 0) await sleep(5);
    await sleep(50);
    leave(socket);
    await sleep(50);
    list();
    while (proxy.refusals.length === 0) await sleep(5);
    t.same(
      proxy.refusals.map(({ code }) => code),
      ["client-closed"],
    );
  });

t.test("who waits for its answer with an address that is another's is an intruder", async (t) => {
  // The process has no connection to that address, as if somebody else used its own.
  const { proxy, list } = await proxyOfThisProcess(t, "127.0.0.99");
  const intruder = wire(proxy.port, "127.0.0.23");
  intruder.write(request);
  while (proxy.imds.connections() === 0) await sleep(5);
  list();
  t.equal((await intruder.answer())?.status, 403);
  t.same(
    proxy.refusals.map(({ code }) => code),
    ["no-such-socket"],
  );
});

t.test(
  "a closed connection in the victim's table is no excuse for an intruder who is still there",
  async (t) => {
    const victim = engineContainer("ff", "127.0.0.24");
    const proxy = await proxyFixture(t, {
      containers: [victim],
      provenance: { check: async () => ({ proven: false, code: "client-closed", reason: "in the table" }) },
      config: { defaultAlias: "web" },
    });
    const at = { port: proxy.port, from: "127.0.0.24" };
    t.equal((await ask(at, "GET", listPath)).status, 403);
    t.equal(proxy.lastRefusal()?.code, "no-such-socket");
  },
);

t.test("an unknown address, while an engine cannot be reached, gets 503", async (t) => {
  const proxy = await proxyFixture(t, { complete: false });
  const answer = await ask({ port: proxy.port, from: stranger }, "PUT", tokenPath, [`${ttlHeader}: 60`]);
  t.same(
    [answer.status, answer.header("retry-after")],
    [503, "1"],
    "not 403, which SDKs take for `no IMDSv2 here`",
  );
  t.equal(proxy.lastRefusal()?.code, "engine-unavailable");
});

t.test(
  "all requests that arrive before the first list are answered by it",
  { timeout: 30_000 },
  async (t) => {
    const listed = Promise.withResolvers<void>();
    const late = engineContainer("dd", "127.0.0.22", { labels: { "ec2metaproxy.RoleAlias": "web" } });
    const proxy = await proxyFixture(t, {
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
