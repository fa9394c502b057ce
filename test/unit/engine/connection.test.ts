import { spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { idOf } from "../../support/engine/engine.ts";
import { following, times, until, web } from "../../support/engine/following.ts";

t.test("what runs at the start is in the directory when it is settled", async (t) => {
  const { directory, changes, watch } = await following(t, {}, (engine) => engine.run(web("172.17.0.2")));
  t.match(directory.at("172.17.0.2"), {
    container: { name: "web", env: { IAM_ROLE: "web" }, pid: process.pid },
  });
  t.same(changes, ["started web true"]);
  t.match(watch.state(), { connected: true, apiVersion: "1.52", engine: "Docker 29.0.0", containers: 1 });
  t.equal(watch.state().lastError, undefined);
});

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
  "an address that changes hands is the new one's; the old one's die takes nothing from it",
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

t.test("an address left by disconnect is free at once, and the other networks stay", async (t) => {
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

t.test("a network connected later, a rename, and unknown ids", async (t) => {
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
});

t.test("two running containers with one address are refused, said once, and looked up again", async (t) => {
  const { engine, directory, logged } = await following(t, {}, (engine) =>
    engine.run(web("172.17.0.2", "one")),
  );
  engine.run(web("172.17.0.2", "two"));
  await until("the conflict", () => directory.at("172.17.0.2").kind === "conflict");
  t.ok(logged.some((message) => message.includes("two containers have one address")));
  engine.die(idOf("one"), { quietly: true });
  engine.event("container", "update", idOf("one"));
  await until("its end", () => directory.at("172.17.0.2").kind === "container");
  t.match(directory.at("172.17.0.2"), { container: { name: "two" } });
});

t.test("a container of a swarm is known by its address on docker_gwbridge too", async (t) => {
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

t.test("an engine that is not there yet is waited for; it is no reason not to start", async (t) => {
  const { engine, watch, directory, states } = await following(t);
  await engine.stop();
  await until("the loss", () => !watch.state().connected);
  t.match(watch.state().lastError, /ENOENT|following the engine's events/);
  engine.run(web("172.17.0.2"), { quietly: true });
  await engine.start();
  await until("the return", () => watch.state().connected);
  t.equal(directory.at("172.17.0.2").kind, "container");
  t.same(
    states.map(({ connected }) => connected).filter((is, index, all) => is !== all[index - 1]),
    [true, false, true],
  );
});

t.test(
  "after a gap in the events the directory is as the engine says: gone, new, and another process at the same address",
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
      "an entry that still holds keeps its identity, and so its proofs",
    );
    const inspected = engine.requests.slice(asked).filter((path) => path.includes(idOf("stays")));
    t.same(inspected, [], "and is not asked for again");
  },
);

t.test("a dead event stream is found out by comparing", async (t) => {
  const { engine, directory } = await following(t, { times: { ...times, compareEveryMs: 50 } });
  engine.run(web("172.17.0.2"), { quietly: true });
  await until("the comparison", () => directory.at("172.17.0.2").kind === "container");
  await until("a new stream", () => engine.requests.filter((path) => path.includes("/events")).length > 1);
});

t.test("a refresh finds a container whose event did not come; many callers share one list", async (t) => {
  const { engine, directory, watch } = await following(t);
  engine.run(web("172.17.0.2"), { quietly: true });
  const lists = () => engine.requests.filter((path) => path.includes("/containers/json")).length;
  const before = lists();
  await Promise.all(Array.from({ length: 100 }, () => watch.refresh()));
  t.equal(directory.at("172.17.0.2").kind, "container");
  t.equal(lists(), before + 1);
});

t.test("a die of an earlier life, sent again after a reconnect, does not remove the container", async (t) => {
  const { engine, directory, changes } = await following(t, {}, (engine) => engine.run(web("172.17.0.2")));
  engine.event("container", "die", idOf("web"), {}, Date.parse("2025-12-31T23:59:59Z"));
  await sleep(50);
  t.equal(directory.at("172.17.0.2").kind, "container");
  t.same(changes, ["started web true"]);
});
