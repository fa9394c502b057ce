import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import type { Engine } from "../support/host/engine.ts";
import {
  ask,
  cpuMs,
  guardedHost,
  guardUnit,
  lockOf,
  proxyUnit,
  pssMb,
  start,
  status,
  whenLocked,
  whenServed,
} from "../support/host/guarded.ts";
import { repository, type TestHost } from "../support/host/host.ts";
import { compareSets } from "../support/host/lock-sets.ts";
import { canBoot } from "../support/host/requirements.ts";

/** What containers rightly do, with the port lock in force, and what the lock costs. */
const connections = 20_000;
/** How long the idle processes are watched. Without it, nothing is measured: `make proof` does that. */
const idleSeconds = Number(process.env.MEASURE_SECONDS ?? 0);
const measuring = idleSeconds > 0 ? false : "measured by make proof";
const port = 7001;
const virtual = { address: "172.30.0.200", mac: "00:00:5e:00:01:33" };
const traffic = `python3 -B ${repository}/test/support/host/traffic.py`;

/** Lets each container say its name on `port`. */
async function listenIn(host: TestHost, docker: Engine, ...names: readonly string[]): Promise<void> {
  for (const name of names) await listenAt(host, `nsenter --target ${await docker.pid(name)} --net`, name);
}

/** @param enter a command that enters a network namespace */
async function listenAt(host: TestHost, enter: string, banner: string): Promise<void> {
  const listening = host.spawn(`exec ${enter} ${traffic} listen ${port} ${banner}`);
  await host.waitFor(() => listening.stdout.includes("listening"), { what: `${banner} to listen` });
}

/** Who answers a container at an address, by name: the number of connections. */
async function whoAnswers(
  engine: Engine,
  from: string,
  address: string,
  count = 1,
): Promise<Readonly<Record<string, number>>> {
  const command = `${traffic} connect ${address} ${port} ${count}`;
  const { stdout } = await engine.inNetwork(from, command, { timeoutMs: 300_000 });
  return JSON.parse(stdout) as Record<string, number>; // traffic.py prints it
}

if (canBoot(t))
  t.test("with the port lock in force, containers can do what they could before", async (t) => {
    const { host, docker, podman } = await guardedHost(t, "bookworm");
    const options = ["--subnet=172.30.0.0/24", "--ip-range=172.30.0.0/25", "--ipv6", "--subnet=fd00:88::/64"];
    await docker.call("network", "create", ...options, "--opt=com.docker.network.driver.mtu=9000", "lan");
    for (const name of ["one", "two", "three"]) await start(docker, name, { network: "lan" });
    for (const name of ["one", "two", "three"]) await whenLocked(host, name);
    await listenIn(host, docker, "one", "two", "three");
    const lan = `br-${(await docker.call("network", "inspect", "--format={{.Id}}", "lan")).slice(0, 12)}`;
    const addressOf = async (name: string) => (await docker.addresses(name)).lan ?? "";

    /** As keepalived does when a router becomes master: adds the address, and announces it a few times. */
    const take = async (name: string, address: string, device = "eth0") => {
      await docker.inNetwork(name, `ip address add ${address}/24 dev ${device}`);
      await docker.inNetwork(name, `${traffic} claim ${device} ${address}`);
    };
    const leave = (name: string, address: string, device = "eth0") =>
      docker.inNetwork(name, `ip address del ${address}/24 dev ${device}`);

    await t.test("a virtual address moves between two containers by gratuitous ARP", async (t) => {
      for (const [owner, former] of [["two"], ["three", "two"], ["two", "three"]] as const) {
        if (former !== undefined) await leave(former, virtual.address);
        await take(owner, virtual.address);
        t.same(await whoAnswers(docker, "one", virtual.address, 10), { [owner]: 10 });
        const { stdout } = await host.exec(`${traffic} connect ${virtual.address} ${port} 10`);
        t.same(JSON.parse(stdout), { [owner]: 10 }, "also for the host");
      }
      await leave("two", virtual.address);
    });

    await t.test("so does one with a hardware address of its own, as of VRRP", async (t) => {
      for (const name of ["two", "three"]) {
        const device = `vrrp link eth0 address ${virtual.mac} type macvlan mode bridge`;
        await docker.inNetwork(name, `ip link add ${device} && ip link set vrrp up`);
        await take(name, virtual.address, "vrrp");
        t.same(await whoAnswers(docker, "one", virtual.address, 10), { [name]: 10 });
        await docker.inNetwork(name, "ip link del vrrp");
      }
    });

    await t.test("but an address that an engine gave to another does not move", async (t) => {
      const address = await addressOf("two");
      await take("three", address);
      t.same(await whoAnswers(docker, "one", address, 10), { two: 10 });
      await leave("three", address);
    });

    await t.test("a container has a bridge of its own, with a namespace on it", async (t) => {
      await start(docker, "nest", { network: "lan" });
      await whenLocked(host, "nest");
      const address = await addressOf("nest");
      const pid = await docker.pid("nest");
      await host.exec(`set -e
ip netns add inner
ip link add up0 netns ${pid} type veth peer name eth0 netns inner
nsenter --target ${pid} --net sh -ec '
  ip link add br0 type bridge; ip link set br0 up; ip link set up0 up
  ip address del ${address}/24 dev eth0; ip link set eth0 master br0; ip link set up0 master br0
  ip address add ${address}/24 dev br0; ip route add default via 172.30.0.1'
ip -n inner address add 172.30.0.210/24 dev eth0; ip -n inner link set eth0 up`);
      await listenIn(host, docker, "nest");
      await listenAt(host, "ip netns exec inner", "inner");
      await host.waitFor(async () => (await whoAnswers(docker, "one", "172.30.0.210")).inner === 1, {
        what: "the bridge to forward",
      });
      t.same(await whoAnswers(docker, "one", "172.30.0.210", 10), { inner: 10 }, "the namespace is reached");
      t.same(await whoAnswers(docker, "one", address, 10), { nest: 10 }, "and the container itself");
      t.equal(await lockOf(host, "nest"), "locked");
      await whenServed(host, docker, "nest");
      await host.exec("ip netns del inner");
      await docker.remove("nest");
    });

    await t.test("a container that is connected to another network is served there", async (t) => {
      await start(docker, "moved", { network: "lan" });
      await docker.call("network", "create", "second");
      await docker.call("network", "connect", "second", "moved");
      await docker.call("network", "disconnect", "lan", "moved");
      await whenServed(host, docker, "moved");
      await docker.call("network", "connect", "lan", "moved");
      await whenLocked(host, "moved");
      await listenIn(host, docker, "moved");
      t.same(await whoAnswers(docker, "one", await addressOf("moved")), { moved: 1 });
      const { found, wanted } = await compareSets(host, [docker, podman]);
      t.same(found, wanted);
      await docker.remove("moved");
    });

    await t.test("a bridge with a name of its own is covered from its first container on", async (t) => {
      await docker.call("network", "create", "--opt=com.docker.network.bridge.name=shop0", "shop");
      await start(docker, "shopper", { network: "shop" });
      const { token, body } = await ask(docker, "shopper");
      t.match(body, /"AccessKeyId"/, `the first request is served: ${token}`);
      // The bridge's own address is one more that no container may speak as.
      await host.waitFor(async () => (await host.exec("ec2metaproxy firewall status")).code === 0, {
        what: "the rules to be complete",
      });
      await docker.remove("shopper");
    });

    await t.test("IPv6: addresses that a container makes itself, also temporary ones", async (t) => {
      const announcing = host.spawn(`exec ${traffic} announce ${lan} fd00:99:0:1`);
      t.teardown(() => announcing.stop());
      const made = async (name: string, flags: string) => {
        await docker.inNetwork(
          name,
          "sysctl -q -w net.ipv6.conf.eth0.accept_ra=2 net.ipv6.conf.eth0.autoconf=1 net.ipv6.conf.eth0.use_tempaddr=2",
        );
        return await host.waitFor(
          async () => {
            const { stdout } = await docker.inNetwork(
              name,
              `ip -6 -o address show dev eth0 ${flags} -tentative`,
            );
            return /(fd00:99:0:1:[0-9a-f:]+)\/64/.exec(stdout)?.[1];
          },
          { what: `an address of ${name} (${flags})` },
        );
      };
      for (const flags of ["mngtmpaddr", "temporary"]) {
        const [from, to] = [await made("one", flags), await made("two", flags)];
        t.same(await whoAnswers(docker, "one", to, 10), { two: 10 }, flags);
        const { stdout } = await docker.inNetwork("two", `ping -6 -c 3 -W 2 -I ${to} ${from}`, {
          check: false,
        });
        t.match(stdout, / 0% packet loss/, `${flags}, from that address`);
      }
    });

    await t.test("jumbo frames", async (t) => {
      const ping = `ping -c 3 -W 2 -M do -s 8972 ${await addressOf("two")}`;
      t.match((await docker.inNetwork("one", ping, { check: false })).stdout, / 0% packet loss/);
    });

    await t.test(`${connections} connections between two containers`, async (t) => {
      const startedAt = performance.now();
      t.same(await whoAnswers(docker, "one", await addressOf("two"), connections), { two: connections });
      const seconds = (performance.now() - startedAt) / 1_000;
      t.comment(`measured: ${connections} connections in ${seconds.toFixed(0)} s`);
    });

    await t.test("the throughput with and without the lock", { skip: measuring }, async (t) => {
      const address = await addressOf("two");
      // The guard would restore the rules.
      await host.exec(`systemctl stop ${guardUnit}`);
      const chain = "chain bridge ec2metaproxy_lock prerouting";
      const measure = async (what: "stream" | "pingpong") =>
        Number((await docker.inNetwork("one", `${traffic} ${what} ${address} ${port} 1`)).stdout);
      for (const what of ["stream", "pingpong"] as const) {
        const [locked, open]: [number[], number[]] = [[], []];
        await measure(what);
        for (let round = 0; round < 7; round += 1) {
          locked.push(await measure(what));
          await host.exec(`nft flush ${chain}`);
          open.push(await measure(what));
          await host.exec(`nft add rule ${chain.replace("chain ", "")} meta iifkind @alive goto locked`);
        }
        // What else runs on the machine can only slow a round down.
        const best = Math.max(...locked) / Math.max(...open);
        const ratios = locked
          .map((one, round) => one / (open[round] ?? Number.NaN))
          .toSorted((a, b) => a - b);
        t.comment(
          `measured: ${what} with the lock / without: ${best.toFixed(2)} (best of 7 each), by round ${ratios.map((one) => one.toFixed(2)).join(" ")}`,
        );
      }
      await host.exec(`systemctl start ${guardUnit}`);
      await whenLocked(host, "two");
    });

    await t.test("a macvlan beside: nothing to lock, and it is reported", async (t) => {
      await host.exec("ip link add up0 type veth peer name up1 && ip link set up0 up && ip link set up1 up");
      const beside = ["--driver=macvlan", "--opt=parent=up0", "--subnet=192.168.77.0/24", "beside"];
      await docker.call("network", "create", ...beside);
      for (const name of ["mac1", "mac2"]) await start(docker, name, { network: "beside" });
      await listenIn(host, docker, "mac2");
      const { beside: address = "" } = await docker.addresses("mac2");
      t.same(await whoAnswers(docker, "mac1", address), { mac2: 1 });
      t.match(await lockOf(host, "mac1"), /no port of a bridge/);
      await docker.remove("mac1", "mac2");
    });

    await t.test("a swarm's container is locked with its address on docker_gwbridge", async (t) => {
      await docker.call("swarm", "init", "--advertise-addr=10.200.0.1");
      await docker.call("network", "create", "--driver=overlay", "--attachable", "overlay");
      await start(docker, "attached", { network: "overlay" });
      const { stdout } = await docker.inNetwork("attached", "ip -4 -o address show dev eth1");
      const [, address = ""] = /inet ([\d.]+)/.exec(stdout) ?? [];
      await whenLocked(host, "attached");
      const known = (await status(host)).containers.find(({ name }) => name === "attached");
      t.ok(known?.addresses.includes(address), `${address} is known before it asks`, { known });
      t.match((await ask(docker, "attached")).body, /"AccessKeyId"/);
      await docker.remove("attached");
      await docker.call("swarm", "leave", "--force");
    });

    await t.test("what the two processes cost with two containers", { skip: measuring }, async (t) => {
      await docker.remove("three");
      await sleep(5_000);
      const units = [guardUnit, proxyUnit];
      const all = () => Promise.all(units.map((unit) => cpuMs(host, unit)));
      const before = await all();
      await sleep(idleSeconds * 1_000);
      const after = await all();
      for (const [index, unit] of units.entries()) {
        const used = (after[index] ?? Number.NaN) - (before[index] ?? Number.NaN);
        t.comment(`measured: ${unit} ${used.toFixed(0)} ms of CPU in ${idleSeconds} s without requests`);
      }
      const check = await cpuMs(host, "ec2metaproxy-firewall-repair.service");
      t.comment(`measured: the timer's check, once a minute, ${check.toFixed(0)} ms of CPU`);
      for (const unit of units)
        t.comment(`measured: ${unit} ${(await pssMb(host, unit)).toFixed(1)} MB (PSS, with its children)`);
      t.match(await status(host), { healthy: true });
    });
  });
