import { rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import t from "tap";
import { containerMessage, decode, encode } from "../../../src/guard/protocol.ts";
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
  Object.defineProperty(labels, "__proto__", { value: "x", enumerable: true });
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
  both.skewMs += 79_000;
  t.same(both.proxy.protectionOf(a.id), locked);
  both.skewMs += 2_000;
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

/** A listener in the guard's place, which the test makes say what it likes. */
async function impostor(path: string, greet: (socket: Socket) => void): Promise<AsyncDisposable> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.resume();
    greet(socket);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const hello = `${JSON.stringify({ type: "hello", protocol: 1, version: "9" })}\n`;
const starting = { locked: false, reason: "it has just appeared" };
const quick = { greetingMs: 200, stateMs: 400, silenceMs: 300 };

for (const { what, greet, error } of [
  { what: "does not greet", greet: () => undefined, error: /no greeting within 0.2 s/ },
  {
    what: "greets and hangs",
    greet: (socket: Socket) => void socket.write(hello),
    error: /sent nothing for 0.3 s/,
  },
  {
    what: "greets, beats and never sends its state",
    greet: (socket: Socket) => {
      socket.write(hello);
      const beat = setInterval(() => socket.write('{"type":"heartbeat"}\n'), 50);
      socket.on("close", () => clearInterval(beat));
    },
    error: /no complete state within 0.4 s/,
  },
  {
    what: "greets twice",
    greet: (socket: Socket) => void socket.write(hello + hello),
    error: /greeted twice/,
  },
]) {
  t.test(`a guard that ${what} is given up, and the next one is followed`, async (t) => {
    const a = container("a", 2);
    await using both = await GuardAndProxy.startWith(quick, a);
    await both.guard.close();
    {
      await using _ = await impostor(both.path, greet);
      await until(() => error.test(both.proxy.state().lastError ?? ""));
      t.equal(both.proxy.complete(), false, "an unknown caller may be a new container");
      t.equal(both.directory.at("172.17.0.2").kind, "container", "what was known stays");
    }
    await both.restart();
    await until(() => both.proxy.state().connected);
    t.equal(both.proxy.complete(), true);
  });
}

t.test("unknown callers cannot make a hanging guard look connected by asking again and again", async (t) => {
  // Longer than a refresh waits, so that the next one comes before the limit.
  const times = { greetingMs: 2_500, silenceMs: 60_000 };
  await using both = await GuardAndProxy.startWith(times, container("a", 2));
  t.equal(both.proxy.complete(), true);
  // As if the guard itself had stopped: its connection stays open, and a new one gets no answer.
  await rm(both.path);
  await using _ = await impostor(both.path, () => undefined);
  const asking = setInterval(() => void both.proxy.refresh(), 20);
  t.teardown(() => clearInterval(asking));
  await until(() => /no greeting/.test(both.proxy.state().lastError ?? ""));
  t.equal(both.proxy.state().connected, false);
});

t.test("a refresh that takes long means that an unknown caller may be a new container", async (t) => {
  await using both = await GuardAndProxy.start(container("a", 2));
  const compared = Promise.withResolvers<void>();
  both.onRefresh = () => compared.promise;
  const refreshed = both.proxy.refresh();
  await until(() => both.refreshes === 2);
  t.equal(both.proxy.complete(), true, "for a moment it means nothing");
  both.skewMs += 1_500;
  t.equal(both.proxy.complete(), false);
  t.equal(both.proxy.state().connected, true);
  compared.resolve();
  await refreshed;
  t.equal(both.proxy.complete(), true);
});

t.test("while an engine is away from the guard, the list is not complete", async (t) => {
  await using both = await GuardAndProxy.start(container("a", 2));
  t.equal(both.proxy.complete(), true);
  both.engines = [{ host: owner, connected: false, since: 1, lastError: "ECONNREFUSED" }];
  both.guard.engines();
  await until(() => !both.proxy.complete());
  t.equal(both.proxy.state().connected, true);
});

t.test("half a state removes nothing", async (t) => {
  const [a, b] = [container("a", 2), container("b", 3)];
  await using both = await GuardAndProxy.startWith(quick, a, b);
  await both.guard.close();
  const { container: moved } = both.put({ ...a, name: "renamed" });
  const half = encode(containerMessage(owner, moved, locked));
  await using _ = await impostor(both.path, (socket) => void socket.end(hello + half));
  await until(() => both.directory.containers().some(({ name }) => name === "renamed"));
  t.equal(both.directory.containers().length, 2);
  t.match(both.proxy.protectionOf(b.id), { locked: false, reason: /restarted/ }, "but it has no lock");
  t.equal(both.proxy.complete(), false);
});

t.test(
  "a guard that has not reached its engine takes no container away, and has no lock for it",
  async (t) => {
    const [a, b] = [container("a", 2), container("b", 3)];
    await using both = await GuardAndProxy.start(a, b);
    await both.guard.close();
    both.published.clear();
    both.engines = [{ host: owner, connected: false, since: 1, lastError: "ECONNREFUSED" }];
    await both.restart();
    await until(() => both.proxy.state().connected && both.proxy.state().engines[0]?.connected === false);
    t.equal(both.directory.containers().length, 2);
    t.match(both.proxy.protectionOf(a.id), { locked: false, reason: /restarted/ });
    // It reaches it: `b` has gone meanwhile.
    both.publish(a);
    both.engines = [{ host: owner, connected: true, since: 2 }];
    both.guard.engines();
    await until(() => both.directory.containers().length === 1);
    t.same(both.proxy.protectionOf(a.id), locked);
    t.equal(both.proxy.complete(), true);
  },
);

t.test("an engine that is no longer in the configuration has no containers", async (t) => {
  await using both = await GuardAndProxy.start(container("a", 2));
  await both.guard.close();
  both.published.clear();
  both.engines = [{ host: "unix:///run/podman/podman.sock", connected: false, since: 1 }];
  await both.restart();
  await until(() => both.directory.containers().length === 0);
  t.end();
});

t.test("a lock of the guard before counts until the next one has greeted", async (t) => {
  const a = container("a", 2);
  await using both = await GuardAndProxy.start(a);
  await both.guard.close();
  await until(() => !both.proxy.state().connected);
  t.same(both.proxy.protectionOf(a.id), locked, "the kernel keeps it");
  const compared = Promise.withResolvers<void>();
  both.onRefresh = () => compared.promise;
  await both.restart();
  await until(() => !both.proxy.protectionOf(a.id).locked);
  compared.resolve();
  await until(() => both.proxy.protectionOf(a.id).locked);
  t.equal(both.changes.length, 1, "the container itself has not changed");
});

t.test("a refresh keeps the locks", async (t) => {
  const a = container("a", 2);
  await using both = await GuardAndProxy.start(a);
  const seen = new Set<boolean>();
  const looking = setInterval(() => seen.add(both.proxy.protectionOf(a.id).locked), 1);
  both.onRefresh = () => new Promise((resolve) => setTimeout(resolve, 100));
  await both.proxy.refresh();
  clearInterval(looking);
  t.same([...seen], [true]);
});

t.test("messages that waited for a process that stood still do not extend the trust in a lock", async (t) => {
  const a = container("a", 2);
  await using both = await GuardAndProxy.start(a);
  // The guard dies right after a last word, which the proxy reads 100 s later.
  both.publish({ ...a, name: "said long ago" });
  both.skewMs += 100_000;
  await both.guard.close();
  await until(() => !both.proxy.state().connected);
  t.equal(both.directory.at("172.17.0.2").kind, "container");
  t.match(both.proxy.protectionOf(a.id), { locked: false, reason: /has not been heard/ });
  await both.restart();
  await until(() => both.proxy.protectionOf(a.id).locked);
});

t.test("news of a container wakes who waits for it, and nobody else", async (t) => {
  const [a, b] = [container("a", 2), container("b", 3)];
  await using both = await GuardAndProxy.start();
  const waits = [both.proxy.news(a.id, 5_000), both.proxy.news(a.id, 5_000)];
  const other = both.proxy.news(b.id, 200);
  both.publish(a, starting);
  t.same(await Promise.all(waits), ["news", "news"]);
  t.equal(await other, "timeout");
  const gone = both.proxy.news(a.id, 5_000);
  both.end(a);
  t.equal(await gone, "news");
});

t.test("a bounded number of requests waits for one container's lock", async (t) => {
  await using both = await GuardAndProxy.start();
  const { id } = container("a", 2);
  const began = performance.now();
  const waits = Array.from({ length: 100 }, async () => {
    const outcome = await both.proxy.news(id, 300);
    return { outcome, ms: performance.now() - began };
  });
  const ended = await Promise.all(waits);
  t.equal(ended.filter(({ ms }) => ms < 250).length, 36);
  t.equal(ended.filter(({ outcome }) => outcome === "full").length, 36);
  t.equal(ended.filter(({ outcome }) => outcome === "timeout").length, 64);
});

t.test("a huge backlog arrives whole, and the process answers meanwhile", async (t) => {
  await using both = await GuardAndProxy.start();
  const many = Array.from({ length: 3_000 }, (_, nth) => {
    const id = nth.toString(16).padStart(64, "0");
    const ipv4 = `10.${nth >> 8}.${nth & 255}.2`;
    const attachments = [{ network: "bridge", ipv4, ipv6: undefined, mac: undefined }];
    return container("a", 2, { id, attachments, labels: { text: "x".repeat(1_000) } });
  });
  let late = 0;
  let last = performance.now();
  const ticks = setInterval(() => {
    late = Math.max(late, performance.now() - last);
    last = performance.now();
  }, 5);
  for (const one of many) both.publish(one);
  await until(() => both.directory.containers().length === many.length);
  clearInterval(ticks);
  t.same(both.proxy.protectionOf(many[2_999]?.id ?? ""), locked);
  t.comment(`the event loop was held up for at most ${Math.round(late)} ms`);
});

t.test("an address in another notation is not believed: it would be another key", async (t) => {
  const mapped = [{ network: "bridge", ipv4: undefined, ipv6: "::ffff:172.17.0.2", mac: undefined }];
  t.throws(
    () => encode(containerMessage(owner, container("a", 2, { attachments: mapped }), locked)),
    /canonical/,
  );
  t.end();
});

for (const line of ['{"labels": swordfish', '{"type":"container","owner":"swordfish"}', '"swordfish"'])
  t.test(`the error about the line ${line} does not say what was in it`, (t) => {
    let message = "";
    try {
      decode(line);
    } catch (error) {
      message = String(error);
    }
    t.match(message, /JSON|protocol 1/);
    t.notMatch(message, /swordfish/);
    t.end();
  });

t.test("the proxy knows what the guard says about the host, and forgets it with another guard", async (t) => {
  await using both = await GuardAndProxy.start();
  t.same(both.proxy.state().host, both.host);
  both.host = {
    firewall: { state: "not-in-force", since: 2, reason: "there are no rules of ec2metaproxy" },
    lockTrouble: "nft: no memory",
  };
  both.guard.host();
  await until(() => both.proxy.state().host?.lockTrouble !== "");
  t.same(both.proxy.state().host, both.host);
  await both.proxy.refresh();
  t.same(both.proxy.state().host, both.host, "the same guard has it still");
  await both.guard.close();
  await until(() => !both.proxy.state().connected);
  const other = await impostor(both.path, (socket) => void socket.write(hello));
  await until(() => both.proxy.state().version === "9");
  t.equal(both.proxy.state().host, undefined);
  await other[Symbol.asyncDispose]();
});
