import { rm } from "node:fs/promises";
import { createServer } from "node:net";
import t from "tap";
import { container, GuardAndProxy, locked, owner, until } from "./fixture.ts";

t.test("the proxy knows what the guard publishes, and each change", async (t) => {
  const [a, b] = [container("a", 2), container("b", 3)];
  await using both = await GuardAndProxy.start(a);
  t.same(both.directory.at("172.17.0.2"), { kind: "container", container: a });
  t.same(both.proxy.state().engines, both.engines);
  t.equal(both.proxy.state().version, "1.1.0");
  t.same(both.proxy.protectionOf(a.id), locked);

  const { pidStartedAt: _, ...starting } = { ...b, pid: 0 };
  both.guard.container(both.put(starting, { locked: false, reason: "it has just appeared" }));
  both.guard.container(both.put(b));
  const renamed = { ...b, name: "other" };
  both.guard.container(both.put(renamed));
  both.published.delete(b.id);
  both.guard.gone(owner, b.id);
  await until(() => both.changes.length === 5);
  t.same(
    both.changes.map(({ kind, container: { name } }) => `${kind} ${name}`),
    ["started ca", "appeared cb", "started cb", "updated other", "gone other"],
  );
  t.same(both.directory.at("172.17.0.3"), { kind: "unknown" });
});

t.test("a label named __proto__ and texts of every kind arrive as they are", async (t) => {
  const labels: Record<string, string> = Object.create(null);
  labels.__proto__ = "x";
  labels["a\nb\u2028"] = '"\\\u0000\ud800';
  const odd = container("a", 2, { labels, env: {}, attachments: [], risks: [] });
  await using both = await GuardAndProxy.start(odd);
  const [known] = both.directory.containers();
  t.same(Object.entries(known?.labels ?? {}), Object.entries(labels));
  t.same(known?.env, {});
});

t.test(
  "while the guard is away, what is known stays; what has gone meanwhile goes when it is back",
  async (t) => {
    const [a, b, c] = [container("a", 2), container("b", 3), container("c", 4)];
    await using both = await GuardAndProxy.start(a, b);
    await both.guard.close();
    await until(() => !both.proxy.state().connected);
    t.equal(both.directory.containers().length, 2);
    t.match(both.proxy.state().lastError, /ended the connection|ENOENT|ECONNREFUSED/);
    both.published.delete(a.id);
    both.put(c);
    await both.restart();
    await until(() => both.proxy.state().connected);
    t.same(
      both.directory.containers().map(({ name }) => name),
      ["cb", "cc"],
    );
    t.same(
      both.logged.filter((text) => text.includes("cannot be followed")).length <= 2,
      true,
      "it is not logged each time",
    );
  },
);

t.test("a lock counts for as long as the kernel keeps it after the guard's last word", async (t) => {
  const a = container("a", 2);
  await using both = await GuardAndProxy.start(a);
  await both.guard.close();
  both.nowMs += 79_000;
  t.same(both.proxy.protectionOf(a.id), locked);
  both.nowMs += 2_000;
  t.match(both.proxy.protectionOf(a.id), { locked: false, reason: /lapsed/ });
});

t.test("to refresh is to connect again: the guard compares, and the whole state comes", async (t) => {
  const [a, b] = [container("a", 2), container("b", 3)];
  await using both = await GuardAndProxy.start(a);
  t.equal(both.refreshes, 1);
  both.logged.length = 0; // the first attempt may have been earlier than the guard
  // The guard learns of a container without an event, as from a list.
  both.onRefresh = async () => void both.put(b);
  await Promise.all([both.proxy.refresh(), both.proxy.refresh()]);
  t.equal(both.refreshes, 2, "two that ask at once share it");
  t.equal(both.directory.at("172.17.0.3").kind, "container");
  t.equal(both.proxy.state().connected, true);
  t.same(both.logged, [], "a refresh is not a failure");
});

t.test("without a guard the service settles all the same, and a refresh ends in its time", async (t) => {
  const both = await GuardAndProxy.start();
  await both.guard.close();
  await rm(both.path, { force: true });
  const before = performance.now();
  await both.proxy.refresh();
  t.ok(performance.now() - before < 5_000);
  t.equal(both.proxy.state().connected, false);
  await both[Symbol.asyncDispose]();
});

for (const { what, says, error } of [
  {
    what: "another protocol",
    says: '{"type":"hello","protocol":2,"version":"9"}',
    error: /not of protocol 1/,
  },
  { what: "no greeting", says: '{"type":"heartbeat"}', error: /no greeting/ },
  { what: "no JSON", says: "HTTP/1.1 400 Bad Request", error: /JSON/ },
  {
    what: "a container with half of its facts",
    says: '{"type":"hello","protocol":1,"version":"9"}\n{"type":"container","owner":"x"}',
    error: /not of protocol/,
  },
  { what: "a line without an end", says: "x".repeat(1_100_000), error: /more than/ },
] as const) {
  t.test(`a guard that says ${what} is not believed`, async (t) => {
    const a = container("a", 2);
    await using both = await GuardAndProxy.start(a);
    await both.guard.close();
    const impostor = createServer((socket) => {
      socket.on("error", () => undefined);
      socket.end(`${says}\n`);
    });
    await new Promise<void>((resolve) => impostor.listen(both.path, resolve));
    await until(() => error.test(both.proxy.state().lastError ?? ""));
    t.match(both.proxy.state(), { connected: false });
    t.equal(both.directory.at("172.17.0.2").kind, "container", "what was known stays");
    await new Promise((resolve) => impostor.close(resolve));
  });
}
