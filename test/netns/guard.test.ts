import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import t from "tap";
import { idOf } from "../support/engine/stand-in.ts";
import { GuardScene, until } from "./guard-scene.ts";
import { unable } from "./requirements.ts";

const skip = unable(process.env, ["python3"]) ?? false;
const victimId = idOf("victim");

/** Creates and starts the victim, and resolves when it is locked: milliseconds from the engine's event. */
async function startVictim(scene: GuardScene): Promise<number> {
  scene.engine.create(scene.victim);
  scene.engine.connect(scene.victim);
  await until("the announcement", () => scene.protection("victim") !== undefined);
  scene.engine.run(scene.victim);
  return until("the lock", () => scene.protection("victim")?.locked === true);
}

t.test(
  "a container's addresses are its own from its start to its end",
  { timeout: 120_000, skip },
  async (t) => {
    await using scene = await GuardScene.make();
    await scene.startGuard();
    t.ok(await scene.believesAttacker(), "without a lock, the host believes the attacker");
    const latencies: number[] = [];
    for (let round = 0; round < 10; round++) {
      latencies.push(await startVictim(scene));
      if (round === 0) {
        t.same(
          scene.world.ip("host", "neigh", "show", "172.30.1.2", "dev", "docker0"),
          "",
          "the host has forgotten what it had learned from the attacker",
        );
        t.notOk(await scene.believesAttacker(), "with it, it does not");
      }
      scene.engine.die(victimId);
      await until("the end", () => scene.protection("victim") === undefined);
      await until("the removal", () => scene.set("port_ipv4")?.length === 0);
    }
    latencies.sort((a, b) => a - b);
    const [median, worst] = [latencies[5] ?? 0, latencies.at(-1) ?? 0];
    t.comment(`measured: from start to the lock ${median.toFixed(0)} ms, at worst ${worst.toFixed(0)} ms`);
    t.ok(await scene.believesAttacker(), "nobody has the address any more");
    for (const name of ["owned", "mac", "ipv4", "ipv6", "port_mac", "port_ipv6", "starting_ipv4"])
      t.same(scene.set(name), [], `nothing is left in ${name}`);
    t.equal(await scene.stopGuard(), 0);
  },
);

t.test("rules that were flushed are back in a moment, each time", { timeout: 120_000, skip }, async (t) => {
  await using scene = await GuardScene.make();
  const { world } = scene;
  scene.applyFirewall();
  await scene.startGuard();
  await startVictim(scene);
  // What the monitors' start has led to is over.
  await delay(2_000);
  const hasTables = () => tables.every((name) => scene.tables().includes(`table ${name}\n`));
  const hasRoutes = () => /170:.*blackhole/.test(world.ip("host", "rule", "show"));
  const took: string[] = [];
  for (const [flush, isBack] of [
    ["nft flush ruleset", hasTables],
    ["nft flush ruleset", hasTables],
    ["nft delete table inet ec2metaproxy", hasTables],
    ["nft flush chain bridge ec2metaproxy prerouting", () => isWhole(scene)],
    ["nft flush set bridge ec2metaproxy_lock alive", () => (scene.set("alive")?.length ?? 0) > 0],
    ["ip rule flush", hasRoutes],
  ] as const) {
    const startedAt = performance.now();
    const [command = "", ...args] = flush.split(" ");
    world.exec("host", command, ...args);
    await until(`the repair after ${flush}`, isBack, 5_000);
    took.push(`${(performance.now() - startedAt).toFixed(0)} ms after ${flush}`);
    if (command === "ip") world.ip("host", "rule", "add", "pref", "32766", "lookup", "main");
    await delay(1_500);
    t.ok(isWhole(scene), `all is back after ${flush}`);
  }
  t.comment(`measured: ${took.join(", ")}`);
  t.notOk(await scene.believesAttacker());
  // Its own transactions have not made it repair again and again.
  const repairs = scene.log.filter((line) => line.includes("were restored"));
  t.ok(repairs.length <= 7, `${repairs.length} repairs for five changes of the base rules`);
  const before = scene.log.length;
  await delay(2_000);
  t.equal(scene.log.length, before, "it is quiet");
  t.same(
    scene.log.filter((line) => line.includes("fail")),
    [],
  );
});

const tables = ["inet ec2metaproxy", "bridge ec2metaproxy", "bridge ec2metaproxy_lock"];

/** Whether all tables, the dead man's switch and the routing rules are there. */
function isWhole(scene: GuardScene): boolean {
  return (
    tables.every((name) => scene.tables().includes(`table ${name}\n`)) &&
    (scene.set("alive")?.length ?? 0) > 0 &&
    scene.set("port_ipv4")?.length === 1 &&
    scene.world
      .exec("host", "nft", "list", "chain", "bridge", "ec2metaproxy", "prerouting")
      .includes("goto") &&
    /170:.*blackhole/.test(scene.world.ip("host", "rule", "show"))
  );
}

t.test(
  "a guard that is killed leaves the lock, and its successor takes it over",
  { timeout: 120_000, skip },
  async (t) => {
    await using scene = await GuardScene.make();
    await scene.startGuard();
    await startVictim(scene);
    await scene.stopGuard("SIGKILL");
    t.notOk(await scene.believesAttacker(), "the lock is in force");
    let gaps = 0;
    let watching = true;
    const watch = (async () => {
      while (watching) {
        if (scene.set("port_ipv4")?.length !== 1) gaps += 1;
        await delay(5);
      }
    })();
    await scene.startGuard();
    await until("the lock", () => scene.protection("victim")?.locked === true);
    watching = false;
    await watch;
    t.equal(gaps, 0, "the lock was there throughout");
    t.notOk(await scene.believesAttacker());
  },
);

t.test(
  "the lock of a guard that hangs lapses, and is back when it goes on",
  { timeout: 120_000, skip },
  async (t) => {
    await using scene = await GuardScene.make();
    await scene.startGuard();
    await startVictim(scene);
    scene.signal("SIGSTOP");
    t.notOk(await scene.believesAttacker());
    // Two minutes pass.
    const kinds = '"veth", "tun", "vxlan", "geneve", "gretap", "ip6gretap", "erspan", "ip6erspan"';
    scene.world.exec("host", "nft", `delete element bridge ec2metaproxy_lock alive { ${kinds} }`);
    scene.world.exec("host", "nft", 'add element bridge ec2metaproxy_lock alive { "veth" timeout 1s }');
    await delay(1_500);
    t.ok(await scene.believesAttacker(), "it has lapsed");
    scene.signal("SIGCONT");
    await until("the lock", () => (scene.set("alive")?.length ?? 0) > 1);
    t.notOk(await scene.believesAttacker());
  },
);

t.test(
  "after 200 quick starts and stops, with flushes and a restart, the lock is of the running containers",
  { timeout: 300_000, skip },
  async (t) => {
    await using scene = await GuardScene.make();
    await scene.startGuard();
    const all = Array.from({ length: 16 }, (_, index) => scene.addSleeper(`c${index}`, 20 + index));
    const running = new Set<string>();
    for (let round = 0; round < 200; round++) {
      const one = all[(round * 7) % all.length];
      if (one === undefined) continue;
      if (running.delete(one.id)) {
        scene.engine.die(one.id);
        if (round % 3 === 0) scene.engine.remove(one.id);
      } else {
        scene.engine.create(one);
        scene.engine.connect(one);
        await delay(round % 5);
        scene.engine.run(one);
        running.add(one.id);
      }
      if (round === 60 || round === 140) scene.world.exec("host", "nft", "flush", "ruleset");
      if (round === 100) {
        await scene.stopGuard("SIGKILL");
        await scene.startGuard();
      }
      await delay(10);
    }
    const expected = all.filter(({ id }) => running.has(id));
    t.ok(expected.length > 3, `${expected.length} are running`);
    await until("all locks", () => expected.every(({ name }) => scene.protection(name)?.locked === true));
    await until("the end of the others", () => scene.published.size === expected.length);
    await until("the removal of the others", () => scene.set("owned")?.length === expected.length);
    t.equal(scene.set("port_ipv4")?.length, expected.length);
    t.equal(scene.set("port_mac")?.length, expected.length);
    t.equal(scene.set("port_ipv6")?.length, 2 * expected.length, "a global and a link-local address each");
    const listing = scene.world.exec("host", "nft", "list", "set", "bridge", "ec2metaproxy_lock", "port_mac");
    for (const { networks, name } of expected)
      t.match(listing, networks?.bridge?.mac ?? "no MAC", `${name} is in it`);
    t.same(scene.set("starting_ipv4"), []);
  },
);

t.test(
  "a bridge that an engine names is covered before its first container starts",
  { timeout: 120_000, skip },
  async (t) => {
    await using scene = await GuardScene.make();
    scene.applyFirewall();
    await scene.startGuard();
    await delay(2_000);
    const covered = () =>
      scene.world
        .exec("host", "nft", "list", "chain", "inet", "ec2metaproxy", "redirect_metadata")
        .includes('iifname "shop0"');
    t.notOk(covered());
    const Options = { "com.docker.network.bridge.name": "shop0" };
    scene.engine.networks = [{ Name: "shop", Driver: "bridge", Options }];
    scene.engine.event("network", "create", "net-shop", { name: "shop", type: "bridge" });
    const took = await until("the rules", covered);
    t.comment(`measured: ${took.toFixed(0)} ms from the network's creation to the rules`);
    t.match(await readFile(scene.path("state", "bridges.json"), "utf8"), "shop0");
    await scene.stopGuard();
    scene.engine.networks = [];
    await scene.startGuard();
    await until("the removal of a network that went while the guard was away", () => !covered());
  },
);
