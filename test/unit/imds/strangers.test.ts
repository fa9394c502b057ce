import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { ask, requestText, wire } from "../../support/raw-http.ts";
import { db, engineContainer, listPath, proxyFixture } from "./fixture.ts";
import { until } from "./until.ts";

const ok = requestText("GET", "/latest/meta-data/instance-id");
const open = { config: { httpTokens: "optional" } };

t.test(
  "unknown addresses share one budget, and a container that is announced late finds a place in it",
  async (t) => {
    const late = engineContainer("11", "127.0.3.3", { labels: { "ec2metaproxy.RoleAlias": "web" } });
    const proxy = await proxyFixture(t, {
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

t.test("a connection beyond the limit of its address, or of all unknown addresses, gets 503", async (t) => {
  const proxy = await proxyFixture(t, { ...open, strangers: { total: 4, perAddress: 2 } });
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
});

t.test(
  "if unknown addresses take every place with one connection each, the one that waited longest makes room",
  async (t) => {
    const late = engineContainer("11", "127.0.3.3", { labels: { "ec2metaproxy.RoleAlias": "web" } });
    const proxy = await proxyFixture(t, {
      ...open,
      provenance: { check: async () => ({ proven: true }) },
      strangers: { total: 20, perAddress: 5 },
      rejections: { total: 4, perShare: 2 },
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
