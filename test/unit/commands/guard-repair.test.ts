import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import { planFirewall } from "../../../src/commands/firewall-plan.ts";
import { Repair } from "../../../src/commands/guard-repair.ts";
import { type Outcome, type Run, run as runCommand } from "../../../src/firewall/command.ts";
import { renderBridgeTable } from "../../../src/firewall/nft-bridge.ts";
import { nftables } from "../../../src/firewall/nftables.ts";
import { rulesOf } from "../firewall/configurations.ts";

const says = (stdout: string): Outcome => ({ kind: "ran", exitCode: 0, stdout, stderr: "" });
const fails = (stderr: string): Outcome => ({ kind: "ran", exitCode: 1, stdout: "", stderr });
const listed = (rendered: string) => rendered.replace(/^(add|delete) table .*\n/gm, "");
const packets = nftables(runCommand).render(rulesOf(""));
const sources = ["169.254.169.254", "fd00:ec2::254", "172.17.0.1"];
const frames = renderBridgeTable(sources, "by kind");
const rule = (address: string) =>
  `169:\tfrom all to ${address} iif lo goto 171\n170:\tfrom all to ${address} blackhole\n171:\tfrom all to ${address} nop\n`;

/** A host whose tables the test may remove; a transaction that applies one brings it back. */
async function fixture(t: { testdir(): string }, settings = "") {
  const directory = t.testdir();
  const bridges: string[] = [];
  await writeFile(join(directory, "firewall.conf"), settings);
  const host = { packets: true, frames: true, broken: false, unreadable: false, confirmedMs: -1 };
  const writes: string[] = [];
  const run: Run = async (command, args, input = "") => {
    const line = [command, ...args].join(" ");
    if (host.broken) return fails("Error: Could not process rule: No buffer space available");
    if (host.unreadable && line === "iptables-save")
      return fails("iptables-save: Permission denied (you must be root)");
    switch (line) {
      case "ip addr show":
        return says("2: docker0: <UP>\n    inet 172.17.0.1/16 scope global docker0\n");
      case "ip -4 rule show":
        return says(rule("169.254.169.254"));
      case "ip -6 rule show":
        return says(rule("fd00:ec2::254"));
      case "nft -s list table inet ec2metaproxy":
        return host.packets ? says(listed(packets)) : fails("Error: No such file or directory");
      case "nft -s list table bridge ec2metaproxy":
        return host.frames ? says(listed(frames)) : fails("Error: No such file or directory");
      case "nft -f -":
        writes.push([...input.matchAll(/^table (.*) \{$/gm)].map(([, name]) => name).join(", "));
        if (input.includes(packets)) host.packets = true;
        if (input.includes(frames)) host.frames = true;
        return says("");
      default:
        if (!/^(nft -c|conntrack |ip6?tables-save)/.test(line)) writes.push(line);
        return says("");
    }
  };
  const logged: string[] = [];
  const record = (level: string) => (fields: object, message: string) =>
    void logged.push(`${level}: ${message} ${JSON.stringify(fields)}`);
  const clock = { now: 0 };
  const slept: number[] = [];
  const retries: (() => void)[] = [];
  const layers: string[] = [];
  const triggers = { count: 0 };
  const states: ReturnType<Repair["firewall"]>[] = [];
  const repair = new Repair({
    run,
    plan: () => planFirewall(directory, undefined, { proxy: 18_000 }, bridges, run),
    trigger: async () => void triggers.count++,
    confirmedMs: async () => (host.confirmedMs < 0 ? undefined : host.confirmedMs),
    onSettings: ({ layer2 }) => layers.push(layer2),
    log: { debug() {}, info: record("info"), warn: record("warn"), error: record("error") },
    onState: () => states.push(repair.firewall()),
    wallNow: () => clock.now,
    now: () => clock.now,
    sleep: async (ms) => {
      if (ms > 0) slept.push(ms);
      clock.now += ms;
    },
    schedule: (_ms, act) => {
      retries.push(act);
      return () => void retries.splice(retries.indexOf(act), 1);
    },
  });
  const check = async () => {
    repair.request();
    await repair.settled();
  };
  return {
    repair,
    host,
    writes,
    logged,
    clock,
    slept,
    retries,
    layers,
    triggers,
    check,
    directory,
    bridges,
    states,
  };
}

t.test("rules that are in place are not touched", async (t) => {
  const { check, writes, logged, repair, layers, triggers } = await fixture(t);
  await check();
  t.same(writes, []);
  t.same(logged, []);
  t.equal(repair.state(), "firewall in place");
  t.same(layers, ["auto"]);
  t.equal(triggers.count, 0);
  await repair.checked;
});

t.test("rules that were flushed are restored, and only those; other backends are left alone", async (t) => {
  const { check, host, writes, logged } = await fixture(t);
  await check();
  host.packets = false;
  host.frames = false;
  await check();
  t.same(writes, ["bridge ec2metaproxy", "inet ec2metaproxy"], "what closes goes first");
  t.match(logged, [/^warn: the firewall rules were not as they should be, and were restored/]);
  await check();
  t.equal(writes.length, 2, "its own transactions lead to one more check, which changes nothing");
});

t.test("tables that are gone are restored as they were, in one transaction, and then checked", async (t) => {
  const { check, repair, host, writes, logged, layers } = await fixture(t);
  await check();
  host.packets = false;
  host.frames = false;
  repair.restore(["inet ec2metaproxy", "bridge ec2metaproxy", "bridge other"]);
  await repair.settled();
  t.same(writes, ["inet ec2metaproxy, bridge ec2metaproxy"]);
  t.equal(layers.length, 2);
  t.match(logged, [/^warn: firewall rules were removed, and were restored/]);
});

t.test("what is not known yet cannot be restored as it was", async (t) => {
  const { repair, host, writes, logged } = await fixture(t);
  host.frames = false;
  repair.restore(["bridge ec2metaproxy", "routes"]);
  await repair.settled();
  t.same(writes, ["bridge ec2metaproxy"], "by the check");
  t.equal(logged.length, 1);
});

t.test("a bridge that an engine names is covered by one transaction, before the check", async (t) => {
  const { check, repair, writes, bridges, layers } = await fixture(t);
  await check();
  bridges.push("shop0");
  await repair.cover();
  t.same(writes, ["inet ec2metaproxy"]);
  t.equal(layers.length, 1);
  await repair.settled();
  t.equal(layers.length, 2);
});

t.test("where no rules are in force, the guard does not make some for a bridge", async (t) => {
  const { check, repair, writes, bridges, host } = await fixture(t);
  host.packets = false;
  await check();
  bridges.push("shop0");
  await repair.cover();
  await repair.settled();
  t.same(writes, []);
});

t.test("rules that nobody has applied are not installed, but the repair unit is told", async (t) => {
  const { check, host, writes, triggers, repair } = await fixture(t);
  host.packets = false;
  await check();
  t.same(writes, []);
  t.equal(triggers.count, 2, "a second time, for the case that the unit was just running");
  t.match(repair.state(), /left to ec2metaproxy-firewall-repair.service/);
  host.packets = true;
  await check();
  host.packets = false;
  await check();
  t.same(writes, ["inet ec2metaproxy"], "once they were seen, they are restored");
});

t.test("with the iptables backend, the repair unit does it", async (t) => {
  const { check, writes, triggers, repair } = await fixture(t, "BACKEND=iptables\n");
  await check();
  t.same(writes, []);
  t.equal(triggers.count, 2);
  repair.requestForIptables();
  await repair.settled();
  t.equal(triggers.count, 4);
});

t.test("with the nftables backend, iptables' changes mean nothing", async (t) => {
  const { check, repair, layers } = await fixture(t);
  await check();
  repair.requestForIptables();
  await repair.settled();
  t.equal(layers.length, 1, "nothing was checked");
});

t.test("requests during a check lead to one more check", async (t) => {
  const { repair, layers } = await fixture(t);
  repair.request();
  for (let count = 0; count < 50; count++) repair.request();
  await repair.settled();
  t.equal(layers.length, 1);
  repair.request();
  await new Promise((resolve) => setImmediate(resolve));
  for (let count = 0; count < 50; count++) repair.request();
  await repair.settled();
  t.equal(layers.length, 3);
});

t.test("a program that removes the rules each time is opposed four times a second", async (t) => {
  const { check, host, clock, writes } = await fixture(t);
  await check();
  const from = clock.now;
  for (let count = 0; count < 40; count++) {
    host.packets = false;
    await check();
  }
  t.equal(writes.length, 40);
  t.ok(clock.now - from >= 9_000, `${clock.now - from} ms`);
});

t.test("a failure is logged once, shown in the state, and followed by another attempt", async (t) => {
  const { check, host, logged, repair, retries } = await fixture(t);
  await check();
  host.broken = true;
  await check();
  await check();
  t.equal(logged.filter((line) => line.startsWith("error: checking the firewall rules failed")).length, 1);
  t.equal(repair.state(), "FIREWALL NOT CHECKED");
  host.broken = false;
  retries.pop()?.();
  await repair.settled();
  t.equal(repair.state(), "firewall in place");
  t.match(logged.at(-1), /^info: the firewall can be checked again/);
});

t.test("settings with problems change nothing, and the problem is logged", async (t) => {
  const { check, logged, writes, directory, repair } = await fixture(t);
  await writeFile(join(directory, "firewall.conf"), "LAYER2=maybe\n");
  await check();
  t.match(logged, [/LAYER2: expected auto or off, got \\"maybe\\"/]);
  t.same(writes, []);
  await repair.checked;
});

t.test("after it was closed, nothing is checked", async (t) => {
  const { repair, layers } = await fixture(t);
  await repair.close();
  repair.request();
  await repair.settled();
  t.same(layers, []);
});

t.test("the state says that the rules are in force, since when, and is reported once", async (t) => {
  const { check, repair, states, clock } = await fixture(t);
  t.match(repair.firewall(), { state: "unknown", since: 0, reason: "not checked yet" });
  clock.now = 5_000;
  await check();
  await check();
  t.same(states, [{ state: "in-force", since: 5_000, reason: "" }]);
});

t.test(
  "rules that nobody has applied are reported as not in force, once the unit had its time",
  async (t) => {
    const { check, host, repair, logged, retries, clock } = await fixture(t);
    host.packets = false;
    await check();
    t.match(repair.firewall(), { state: "not-in-force", reason: "there are no rules of ec2metaproxy" });
    t.ok(clock.now >= 5_000, "the repair unit had time");
    t.match(repair.state(), /^FIREWALL NOT IN FORCE: there are no rules of ec2metaproxy; left to/);
    t.match(logged, [/^error: the firewall rules are not in force/]);
    host.packets = true;
    retries.pop()?.();
    await new Promise((resolve) => setTimeout(resolve, 50));
    t.match(repair.firewall(), { state: "in-force", reason: "" }, "it is looked at again without an event");
    t.match(logged.at(-1), /^info: the firewall rules are in force/);
  },
);

t.test("iptables rules that the guard may not read are unknown, which is no alarm", async (t) => {
  const { check, host, repair, logged } = await fixture(t, "BACKEND=iptables\n");
  host.unreadable = true;
  await check();
  t.match(repair.firewall(), {
    state: "unknown",
    reason: /the guard cannot read the rules .*Permission denied/,
  });
  t.same(logged, []);
});

t.test(
  "iptables rules that the guard may not read are in force if the repair unit has found them so",
  async (t) => {
    const { check, host, repair, clock } = await fixture(t, "BACKEND=iptables\n");
    host.unreadable = true;
    host.confirmedMs = 149_000;
    await check();
    t.match(repair.firewall(), { state: "in-force" });
    host.confirmedMs = 151_000;
    await check();
    t.match(repair.firewall(), { state: "unknown" }, "the unit may just be late");
    clock.now += 150_000;
    await check();
    t.match(repair.firewall(), { state: "check-failed", reason: /ec2metaproxy-firewall.timer active\?$/ });
  },
);

t.test("a check that fails is reported with its reason", async (t) => {
  const { check, directory, repair } = await fixture(t);
  await writeFile(join(directory, "firewall.conf"), "LAYER2=maybe\n");
  await check();
  t.match(repair.firewall(), { state: "check-failed", reason: /LAYER2: expected auto or off/ });
});
