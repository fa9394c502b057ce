import { mkdir, rm, stat, writeFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { dirname } from "node:path";
import t from "tap";
import { containerMessage, decode, encode } from "../../../src/guard/protocol.ts";
import { container, GivenGuard, GuardAndProxy, locked, owner, until } from "./fixture.ts";

async function read(path: string): Promise<{ socket: Socket; text: () => string }> {
  let text = "";
  const socket = connect(path);
  socket.on("error", () => undefined);
  socket.on("data", (chunk) => {
    text += String(chunk);
  });
  return { socket, text: () => text };
}

t.test("what is published holds no variable but the two, and the socket is for its group only", async (t) => {
  const one = container("a", 2, { env: { IAM_ROLE: "db" } });
  // As an engine's answer would be that was kept whole by mistake.
  Object.assign(one.env, { DATABASE_PASSWORD: "swordfish" });
  await using both = await GuardAndProxy.start();
  both.put(one);
  const { socket, text } = await read(both.path);
  await until(() => socket.destroyed || text().includes("snapshot-end"));
  t.notMatch(text(), "swordfish");
  t.equal((await stat(both.path)).mode & 0o777, 0o660);
  socket.destroy();
});

t.test("a reader that writes is disconnected, and nothing of it is read", async (t) => {
  await using both = await GuardAndProxy.start(container("a", 2));
  const { socket } = await read(both.path);
  socket.write('{"type":"gone"}\n');
  await until(() => socket.closed);
  t.equal(both.directory.containers().length, 1);
  both.guard.gone(owner, "a".repeat(64));
  await until(() => both.directory.containers().length === 0);
});

t.test("readers are counted: those beyond eight are sent away", async (t) => {
  await using both = await GuardAndProxy.start(container("a", 2));
  const readers = await Promise.all(Array.from({ length: 12 }, () => read(both.path)));
  await until(() => readers.filter(({ socket }) => socket.closed).length === 5);
  t.equal(readers.filter(({ text }) => text().includes("hello")).length, 7);
  for (const { socket } of readers) socket.destroy();
});

t.test("a reader that does not read is given up, and the others are told all", async (t) => {
  await using both = await GuardAndProxy.start(container("a", 2));
  const slow = connect(both.path);
  slow.on("error", () => undefined);
  slow.pause();
  const big = container("b", 3, { labels: { text: "x".repeat(900_000) } });
  for (let round = 0; round < 40; round++) {
    both.guard.container(both.put({ ...big, name: `b${round}` }));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await until(() => both.directory.containers().some(({ name }) => name === "b39"));
  slow.resume();
  await until(() => slow.closed);
  t.pass("the slow one was closed");
});

t.test("a state that is larger than what may be unread reaches a reader that reads", async (t) => {
  const text = "x".repeat(900_000);
  const many = Array.from({ length: 30 }, (_, index) =>
    container("a", 2, { id: String(index).padStart(64, "0"), name: `c${index}`, labels: { text } }),
  );
  await using both = await GuardAndProxy.start(...many);
  await until(() => both.directory.containers().length === 30);
  t.equal(both.proxy.state().connected, true);
});

t.test("a container that is too large to be published is unknown, and the others are not", async (t) => {
  const large = container("b", 3, { labels: { text: "x".repeat(1_100_000) } });
  await using both = await GuardAndProxy.start(container("a", 2), large);
  t.same(
    both.directory.containers().map(({ name }) => name),
    ["ca"],
  );
  const small = container("c", 4);
  both.guard.container(both.put(small));
  await until(() => both.directory.containers().length === 2);
  both.guard.container(both.put({ ...small, labels: large.labels }));
  await until(() => both.directory.containers().length === 1);
  t.equal(both.proxy.state().connected, true);
});

t.test("a container's hardware addresses are published, and one that has none stays without", async (t) => {
  const attachments = [
    { network: "bridge", ipv4: "172.17.0.2", ipv6: undefined, mac: "02:42:ac:11:00:02" },
    { network: "ipvlan", ipv4: "10.0.0.9", ipv6: undefined, mac: undefined },
  ];
  await using both = await GuardAndProxy.start(container("a", 2, { attachments }));
  t.same(both.directory.containers()[0]?.attachments, attachments);
});

for (const mac of ["02:42:AC:11:00:02", "02:42:ac:11:00", "", "02:42:ac:11:00:02\n", "x"])
  t.test(`the protocol has no place for the hardware address ${JSON.stringify(mac)}`, async (t) => {
    const attachments = [{ network: "bridge", ipv4: "172.17.0.2", ipv6: undefined, mac }];
    const message = containerMessage(owner, container("a", 2, { attachments }), locked);
    t.throws(() => encode(message));
    t.throws(() => decode(JSON.stringify(message)), { message: /container\.attachments\.0\.mac/ });
  });

for (const { what, remove } of [
  { what: "was removed", remove: (path: string) => rm(path) },
  {
    what: "was replaced by a file",
    remove: async (path: string) => {
      await rm(path);
      await writeFile(path, "");
    },
  },
])
  t.test(`a socket that ${what} is made again, and its readers stay connected`, async (t) => {
    await using both = await GivenGuard.listen(container("a", 2));
    const { socket, text } = await read(both.path);
    await until(() => text().includes("snapshot-end"));
    await remove(both.path);
    await until(() => both.lost.length > 0);
    t.same(both.lost, [undefined]);
    t.equal((await stat(both.path)).mode & 0o777, 0o660);
    both.publish(container("b", 3));
    await until(() => text().includes("b".repeat(64)));
    const next = await read(both.path);
    await until(() => next.text().includes("snapshot-end"));
    t.match(next.text(), "b".repeat(64));
    for (const one of [socket, next.socket]) one.destroy();
  });

t.test("a socket that cannot be made again is reported, and made as soon as it can be", async (t) => {
  await using both = await GivenGuard.listen(container("a", 2));
  const folder = dirname(both.path);
  await rm(folder, { recursive: true });
  await until(() => both.lost.length > 1);
  t.match(both.lost[0], /ENOENT|EACCES/);
  await mkdir(folder);
  await until(() => both.lost.at(-1) === undefined);
  const { socket, text } = await read(both.path);
  await until(() => text().includes("snapshot-end"));
  socket.destroy();
});
