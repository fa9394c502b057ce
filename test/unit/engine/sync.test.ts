import { spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { following, times, until, web } from "../../support/engine/following.ts";
import { idOf } from "../../support/engine/stand-in.ts";

t.test(
  "a container is announced at network connect, before it runs; its process follows at its start",
  async (t) => {
    const { engine, directory, changes } = await following(t);
    engine.create(web("172.17.0.2"));
    await until("the inspection", () =>
      engine.requests.some((path) => path.includes(`/containers/${idOf("web")}/`)),
    );
    engine.connect(web("172.17.0.2"));
    await until("the announcement", () => changes.length === 1);
    t.match(directory.at("172.17.0.2"), { container: { name: "web", pid: 0, env: { IAM_ROLE: "web" } } });
    engine.run(web("172.17.0.2"));
    await until("the start", () => changes.length === 2);
    t.match(directory.at("172.17.0.2"), { container: { pid: process.pid } });
    engine.die(idOf("web"));
    await until("the end", () => changes.length === 3);
    t.equal(directory.at("172.17.0.2").kind, "unknown");
    t.same(changes, ["appeared web false", "started web true", "gone web true"]);
  },
);

t.test("an announced container has the hardware address of its network, a running one its own", async (t) => {
  const { engine, directory, changes } = await following(t);
  const at = (mac: string) => ({ ...web("172.17.0.2"), networks: { bridge: { ipv4: "172.17.0.2", mac } } });
  const attachment = { network: "bridge", ipv4: "172.17.0.2", ipv6: undefined };
  engine.create(at("02:42:AC:11:00:02"));
  engine.connect(at("02:42:AC:11:00:02"));
  await until("the announcement", () => changes.length === 1);
  t.same(directory.containers()[0]?.attachments, [{ ...attachment, mac: "02:42:ac:11:00:02" }]);
  engine.run(at("02:42:ac:11:00:07"));
  await until("the start", () => changes.length === 2);
  t.same(directory.containers()[0]?.attachments, [{ ...attachment, mac: "02:42:ac:11:00:07" }]);
});

t.test("an announced container whose start failed is gone again", async (t) => {
  const { engine, directory, changes } = await following(t);
  engine.create(web("172.17.0.2"));
  engine.connect(web("172.17.0.2"));
  await until("the announcement", () => changes.length === 1);
  engine.event("network", "disconnect", "net-bridge", { container: idOf("web"), name: "bridge" });
  await until("the end", () => changes.length === 2);
  t.equal(directory.at("172.17.0.2").kind, "unknown");
});

t.test("a late answer does not bring back a container that died meanwhile", async (t) => {
  const { engine, directory, changes } = await following(t);
  const held = Promise.withResolvers<void>();
  engine.hold = { only: new RegExp(`/containers/${idOf("web")}/json`), until: held.promise };
  engine.run(web("172.17.0.2"));
  await until("the inspection", () => engine.requests.some((path) => path.includes(idOf("web"))));
  engine.die(idOf("web"));
  engine.run(web("172.17.0.2", "next"));
  await until("the next one", () => changes.includes("started next true"));
  held.resolve();
  await sleep(50);
  t.match(directory.at("172.17.0.2"), { kind: "container", container: { name: "next" } });
  t.same(changes, ["started next true"]);
});

t.test(
  "an address that changes hands belongs to the new container; a late die of the old one does not remove it",
  async (t) => {
    const { engine, directory, changes } = await following(t, {}, (engine) =>
      engine.run(web("172.17.0.2", "old")),
    );
    engine.die(idOf("old"));
    engine.run(web("172.17.0.2", "new"));
    await until("the new one", () => changes.includes("started new true"));
    engine.event("container", "die", idOf("old"));
    engine.event("container", "destroy", idOf("old"));
    await sleep(50);
    t.match(directory.at("172.17.0.2"), { container: { name: "new" } });
  },
);

t.test("an address is free at once after a disconnect, and the other networks stay", async (t) => {
  const two = {
    ...web("172.17.0.2"),
    networks: { bridge: { ipv4: "172.17.0.2" }, second: { ipv4: "172.18.0.2" } },
  };
  const { engine, directory } = await following(t, {}, (engine) => engine.run(two));
  engine.fault({ kind: "hang" });
  engine.event("network", "disconnect", "net-bridge", { container: idOf("web"), name: "bridge" });
  await until("the address to be free", () => directory.at("172.17.0.2").kind === "unknown");
  t.match(directory.at("172.18.0.2"), { container: { name: "web" } });
});

t.test(
  "a later network connect and a rename are applied, and events of unknown ids are ignored",
  async (t) => {
    const { engine, directory, changes } = await following(t, {}, (engine) => engine.run(web("172.17.0.2")));
    const both = {
      ...web("172.17.0.2", "web"),
      name: "api",
      networks: { a: { ipv4: "172.17.0.2" }, b: { ipv6: "fd00::9" } },
    };
    engine.run(both, { quietly: true });
    engine.event("network", "connect", "net-b", { container: idOf("web"), name: "b" });
    engine.event("container", "rename", idOf("web"));
    engine.event("container", "start", idOf("nobody"));
    engine.event("container", "die", idOf("nobody"));
    engine.event("network", "connect", "net-b", { container: idOf("nobody"), name: "b" });
    engine.event("network", "disconnect", "net-b", { container: idOf("nobody"), name: "b" });
    await until("the new address", () => directory.at("fd00::9").kind === "container");
    t.match(directory.at("172.17.0.2"), { container: { name: "api" } });
    t.ok(changes.includes("updated api true"));
    t.equal(directory.containers().length, 1);
  },
);

t.test(
  "two running containers with one address are a conflict, logged once, and inspected again",
  async (t) => {
    const { engine, directory, logged } = await following(t, {}, (engine) =>
      engine.run(web("172.17.0.2", "one")),
    );
    engine.run(web("172.17.0.2", "two"));
    await until("the conflict", () => directory.at("172.17.0.2").kind === "conflict");
    t.ok(logged.some((message) => message.includes("two containers have the same address")));
    engine.die(idOf("one"), { quietly: true });
    engine.event("container", "update", idOf("one"));
    await until("its end", () => directory.at("172.17.0.2").kind === "container");
    t.match(directory.at("172.17.0.2"), { container: { name: "two" } });
  },
);

t.test("a swarm container is also known by its address on docker_gwbridge", async (t) => {
  const task = {
    ...web("10.0.1.5"),
    networks: { overlay: { ipv4: "10.0.1.5" }, docker_gwbridge: { ipv4: "172.19.0.3" } },
  };
  const { engine, directory } = await following(t, {}, (engine) => engine.run(task));
  t.match(directory.at("172.19.0.3"), { container: { name: "web" } });
  engine.run({
    ...task,
    id: idOf("late"),
    name: "late",
    networks: { docker_gwbridge: { ipv4: "172.19.0.4" }, overlay: { ipv4: "10.0.1.6" } },
  });
  await until("the second task", () => directory.at("172.19.0.4").kind === "container");
  t.match(directory.at("10.0.1.6"), { container: { name: "late" } });
});

t.test("on a host that joins a swarm, the first container is known by both of its addresses", async (t) => {
  const { engine, directory } = await following(t);
  // There is no event for docker_gwbridge.
  engine.event("network", "create", "net-overlay", { name: "overlay", type: "overlay" });
  engine.run({
    ...web("10.0.1.5"),
    networks: { overlay: { ipv4: "10.0.1.5" }, docker_gwbridge: { ipv4: "172.19.0.3" } },
  });
  await until("its address", () => directory.at("10.0.1.5").kind === "container");
  t.match(directory.at("172.19.0.3"), { container: { name: "web" } });
});

t.test(
  "after a gap in the events the directory is as the engine lists it: gone, new, and another process at the same address",
  async (t) => {
    const child = spawn("sleep", ["30"]);
    t.teardown(() => child.kill("SIGKILL"));
    const restarted = { ...web("172.17.0.4", "restarted"), pid: child.pid ?? 0 };
    const { engine, directory, changes } = await following(t, {}, (engine) => {
      engine.run(web("172.17.0.2", "dies"));
      engine.run(web("172.17.0.3", "stays"));
      engine.run(restarted);
    });
    const stays = directory.at("172.17.0.3");
    child.kill("SIGKILL");
    engine.die(idOf("dies"), { quietly: true });
    engine.run(web("172.17.0.2", "takes its address"), { quietly: true });
    engine.run({ ...restarted, pid: process.pid }, { quietly: true });
    changes.length = 0;
    const asked = engine.requests.length;
    engine.dropStreams();
    await until("the repair", () => changes.length === 3);
    t.same(changes.toSorted(), [
      "gone dies true",
      "started restarted true",
      "started takes its address true",
    ]);
    t.match(directory.at("172.17.0.2"), { container: { name: "takes its address" } });
    t.equal(
      directory.at("172.17.0.3"),
      stays,
      "an entry that is still right stays the same object, so its proofs hold",
    );
    const inspected = engine.requests.slice(asked).filter((path) => path.includes(idOf("stays")));
    t.same(inspected, [], "and is not inspected again");
  },
);

t.test("a replayed die of an earlier run does not remove the container", async (t) => {
  const { engine, directory, changes } = await following(t, {}, (engine) => engine.run(web("172.17.0.2")));
  engine.event("container", "die", idOf("web"), {}, Date.parse("2025-12-31T23:59:59Z"));
  await sleep(50);
  t.equal(directory.at("172.17.0.2").kind, "container");
  t.same(changes, ["started web true"]);
});

t.test("a container that keeps changing does not block a comparison", async (t) => {
  const { engine, directory, connection } = await following(
    t,
    { times: { ...times, refreshTimeoutMs: 10_000 } },
    (engine) => engine.run(web("172.17.0.2")),
  );
  let answers = 0;
  const storm = setInterval(() => engine.event("container", "update", idOf("storm")), 1);
  t.teardown(() => clearInterval(storm));
  engine.run(web("172.17.0.3", "storm"), { quietly: true });
  engine.run(web("172.17.0.4", "calm"), { quietly: true });
  for (; answers < 3; answers++) await connection.refresh();
  t.equal(answers, 3);
  t.equal(directory.at("172.17.0.4").kind, "container");
});

t.test("a flood of events about unknown containers leaves nothing behind", async (t) => {
  const { engine, directory, connection } = await following(t, {}, (engine) => engine.run(web("172.17.0.2")));
  for (let index = 0; index < 3000; index += 1) {
    const id = idOf(`ghost${index}`);
    engine.event("container", index % 2 === 0 ? "start" : "die", id);
    engine.event("network", "connect", "net-bridge", { container: id, name: "bridge" });
  }
  engine.run(web("172.17.0.3", "after"));
  await until("the container after the flood", () => directory.at("172.17.0.3").kind === "container");
  t.equal(directory.containers().length, 2);
  t.ok(connection.state().connected);
});

const named = (Name: string, bridge: string, Driver = "bridge") => ({
  Name,
  Driver,
  Options: { "com.docker.network.bridge.name": bridge },
});

t.test("names of bridges are reported at the connection, and when a network comes or goes", async (t) => {
  const reported: string[] = [];
  const onBridges = (names: readonly string[]) => void reported.push(names.join(" "));
  const { engine } = await following(t, { onBridges }, (it) => {
    it.networks = [
      named("bridge", "docker0"),
      { Name: "app", Driver: "bridge", Options: {} },
      { Name: "host", Driver: "host", Options: null },
      named("vlan", "eth0", "macvlan"),
    ];
  });
  await until("the first list", () => reported.length === 1);
  engine.networks = [...engine.networks, named("shop", "shop0")];
  engine.event("network", "create", "net-shop", { name: "shop", type: "bridge" });
  await until("the new network", () => reported.length === 2);
  engine.networks = [];
  engine.event("network", "destroy", "net-shop", { name: "shop", type: "bridge" });
  await until("the end", () => reported.length === 3);
  t.same(reported, ["docker0", "docker0 shop0", ""]);
});

t.test("a network that is created while the networks are being listed is not missed", async (t) => {
  const reported: string[] = [];
  const onBridges = (names: readonly string[]) => void reported.push(names.join(" "));
  const { engine } = await following(t, { onBridges });
  await until("the first list", () => reported.length === 1);
  const held = Promise.withResolvers<void>();
  engine.hold = { only: /\/networks$/, until: held.promise };
  engine.event("network", "create", "net-a", { name: "a", type: "bridge" });
  await until("the request", () => engine.requests.filter((path) => /\/networks$/.test(path)).length === 2);
  engine.networks = [named("shop", "shop0")];
  engine.event("network", "create", "net-shop", { name: "shop", type: "bridge" });
  await sleep(20);
  engine.hold = undefined;
  held.resolve();
  await until("the second list", () => reported.at(-1) === "shop0");
});

t.test("an engine that does not let its networks be listed is followed all the same", async (t) => {
  const reported: unknown[] = [];
  const { engine, directory, connection, logged } = await following(
    t,
    { onBridges: (names) => void reported.push(names) },
    (it) => it.fault({ kind: "status", status: 403, only: /\/networks$/ }),
  );
  engine.run(web("172.17.0.2"));
  await until("the container", () => directory.containers().length === 1);
  engine.event("network", "create", "net-a", { name: "a", type: "bridge" });
  await sleep(50);
  t.equal(connection.state().connected, true);
  t.same(reported, []);
  t.equal(logged.filter((line) => line.includes("cannot list the engine's networks")).length, 1);
});

t.test("without anybody who wants the names of bridges, networks are not listed", async (t) => {
  const { engine } = await following(t);
  engine.event("network", "create", "net-a", { name: "a", type: "bridge" });
  await sleep(30);
  t.same(
    engine.requests.filter((path) => /\/networks$/.test(path)),
    [],
  );
});
