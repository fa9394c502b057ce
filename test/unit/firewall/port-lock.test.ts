import { mkdir, readdir, readlink, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import type { Outcome } from "../../../src/firewall/command.ts";
import { type LockTarget, PortLock } from "../../../src/firewall/port-lock.ts";

const ran = (stdout = ""): Outcome => ({ kind: "ran", exitCode: 0, stdout, stderr: "" });
const failed = (stderr: string): Outcome => ({ kind: "ran", exitCode: 1, stdout: "", stderr });
const mac = "02:42:ac:11:00:02";
const startedAt = 4_000;
const listNamespaces = "ip -j netns list";

function target(pid: number, more: Partial<LockTarget> = {}): LockTarget {
  return {
    macs: [mac],
    addresses: ["172.17.0.2"],
    pid,
    pidStartedAt: startedAt,
    obstacle: undefined,
    ...more,
  };
}

/** A host where process N has namespace N, whose id is N too, and a port with index 10N on docker0. */
async function fixture(t: { testdir(): string; teardown(run: () => Promise<void>): void }) {
  const folder = t.testdir();
  const [procRoot, namespacesFolder] = [join(folder, "proc"), join(folder, "netns")];
  const clock = { now: 0 };
  const commands: string[] = [];
  const transactions: string[] = [];
  const changes: (readonly string[])[] = [];
  const troubles: (string | undefined)[] = [];
  const retries: { readonly ms: number; readonly act: () => void }[] = [];
  const host = {
    ports: [] as { index: number; id?: number; name?: string; bridge?: string | null }[],
    ids: new Map<number, number>(),
    /** What the host believes after its entries were removed. */
    neighbours: [] as { dst: string; dev: string; lladdr?: string }[],
    /** Whether docker0 learns nothing from link-local frames. Undefined: ip does not know the option. */
    notLearning: 1 as number | undefined,
  };
  const answers: {
    nft: (text: string) => Outcome;
    ip: (text: string) => Outcome;
    bridges: (() => Outcome) | undefined;
    /** Of `ip netns list`. */
    namespaces: () => Promise<Outcome>;
  } = {
    nft: () => ran(),
    ip: () => ran(),
    bridges: undefined,
    namespaces: async () => {
      const listed = await Promise.all(
        (await readdir(namespacesFolder)).map(async (name) => {
          const file = await readlink(join(namespacesFolder, name));
          return { name, id: host.ids.get(Number(file.split("/").at(-3))) };
        }),
      );
      return ran(JSON.stringify(listed));
    },
  };
  /** The neighbour entries that were removed. */
  const forgotten: string[] = [];
  const addProcess = async (pid: number, at = startedAt) => {
    await mkdir(join(procRoot, String(pid)), { recursive: true });
    await writeFile(join(procRoot, `${pid}/stat`), `${pid} (a) S${" 0".repeat(18)} ${at} 0`);
    host.ids.set(pid, pid);
    if (!host.ports.some(({ id }) => id === pid)) host.ports.push({ index: pid * 10, id: pid });
  };
  const lock = new PortLock({
    run: async (command, args, input = "") => {
      commands.push([command, ...args].join(" "));
      // As for a real command, something may change meanwhile.
      await new Promise((resolve) => setImmediate(resolve));
      switch (command) {
        case "nft":
          transactions.push(input);
          return answers.nft(input);
        default:
          if (args.includes("netns")) return answers.namespaces();
          if (args.includes("neigh")) return ran(JSON.stringify(host.neighbours));
          if (args[0] === "-force") {
            forgotten.push(...input.split("\n").filter((line) => line.startsWith("neigh")));
            return answers.ip(input);
          }
          if (args.at(-1) === "bridge" && answers.bridges !== undefined) return answers.bridges();
          if (args.at(-1) === "bridge")
            return ran(
              JSON.stringify(
                ["docker0", ...host.ports.flatMap(({ bridge }) => bridge ?? [])].map((ifname) => ({
                  ifname,
                  linkinfo: { info_data: { no_linklocal_learn: host.notLearning } },
                })),
              ),
            );
          return ran(
            JSON.stringify(
              host.ports.map(({ index, id, name = `veth${index}`, bridge = "docker0" }) => ({
                ...{ ifindex: index, ifname: name, master: bridge, link_netnsid: id },
                linkinfo: { info_kind: "veth" },
              })),
            ),
          );
      }
    },
    procRoot,
    namespacesFolder,
    onChange: (ids) => changes.push(ids),
    onTrouble: (error) => troubles.push(error),
    schedule: (ms, act) => {
      const retry = { ms, act };
      retries.push(retry);
      return () => void retries.splice(retries.indexOf(retry), retries.includes(retry) ? 1 : 0);
    },
    random: () => 0.5,
    now: () => clock.now,
  });
  t.teardown(() => lock.close());
  return {
    lock,
    commands,
    transactions,
    forgotten,
    changes,
    troubles,
    retries,
    host,
    answers,
    addProcess,
    procRoot,
    namespacesFolder,
    clock,
  };
}

t.test("before it is started, the table that a former guard has left is not touched", async (t) => {
  const { lock, transactions, addProcess } = await fixture(t);
  await addProcess(1);
  lock.set("a", target(1));
  lock.rebuild();
  await lock.refresh();
  await lock.settled();
  t.same(transactions, []);
  lock.start();
  await lock.settled();
  t.equal(transactions.length, 1);
  t.match(transactions[0], /^add table bridge ec2metaproxy_lock\ndelete table .*\ntable /);
});

t.test("a container is locked once its ports are found, and the host forgets its addresses", async (t) => {
  const { lock, commands, transactions, changes, addProcess } = await fixture(t);
  lock.start();
  await lock.settled();
  lock.set("a", target(0, { pidStartedAt: undefined }));
  t.same(lock.protectionOf("a"), { locked: false, reason: "it has not started yet", isPending: true });
  await lock.settled();
  t.match(transactions.at(-1), /add element bridge ec2metaproxy_lock starting_ipv4 \{ 0xac110002 \}/);
  await addProcess(1);
  lock.set("a", target(1));
  t.same(lock.protectionOf("a"), { locked: false, reason: "the lock is being made", isPending: true });
  await lock.settled();
  t.match(transactions.at(-1), /delete element bridge ec2metaproxy_lock starting_ipv4/);
  t.match(transactions.at(-1), /add element bridge ec2metaproxy_lock port_ipv4 \{ 10 \. 0xac110002 \}/);
  t.same(lock.protectionOf("a"), { locked: true });
  t.same(changes.at(-1), ["a"]);
  t.same(
    commands.slice(-3),
    ["nft -f -", "ip -force -batch -", "ip -j neigh show nud all"],
    "the cache is cleared after the lock is made",
  );
  lock.delete("a");
  await lock.settled();
  t.match(transactions.at(-1), /delete element bridge ec2metaproxy_lock port_ipv4 \{ 10 \. 0xac110002 \}/);
});

t.test("bridges learn no addresses from frames that the lock does not see", async (t) => {
  const { lock, transactions, changes, host, answers, addProcess } = await fixture(t);
  const batches: string[] = [];
  host.notLearning = 0;
  answers.ip = (text) => {
    batches.push(`${transactions.length} ${text}`);
    host.notLearning = 1;
    return ran();
  };
  await addProcess(1);
  lock.start();
  lock.set("a", target(1));
  await lock.settled();
  t.same(batches, [
    "0 link set dev docker0 type bridge no_linklocal_learn 1\n",
    "1 neigh flush to 172.17.0.2 dev docker0\n",
  ]);
  t.same(lock.protectionOf("a"), { locked: true });

  // Somebody else changes it, and then it cannot be changed back.
  for (const value of [0, undefined]) {
    host.notLearning = value;
    answers.ip = () => failed("Error: argument is wrong");
    lock.lookAgain();
    await lock.settled();
    t.match(lock.protectionOf("a"), {
      locked: false,
      reason: /^docker0 may learn addresses from link-local/,
    });
  }
  t.same(changes.at(-1), ["a"]);
  host.notLearning = 1;
  lock.lookAgain();
  await lock.settled();
  t.same(lock.protectionOf("a"), { locked: true });
});

t.test("a container without ports does not take addresses from one that is locked", async (t) => {
  const { lock, transactions, addProcess } = await fixture(t);
  await addProcess(1);
  lock.start();
  lock.set("remote", target(4_242_424, { pidStartedAt: undefined }));
  lock.set("a", target(1));
  await lock.settled();
  t.match(transactions.at(-1), /set portless_mac \{ typeof ether saddr; \}/);
  t.match(transactions.at(-1), /set portless_ipv4 \{ typeof @nh,96,32; \}/);
  t.match(transactions.at(-1), /set portless_ipv6 \{ typeof @nh,64,128; \}/);
  lock.delete("a");
  await lock.settled();
  t.match(transactions.at(-1), /add element bridge ec2metaproxy_lock portless_ipv4 \{ 0xac110002 \}/);
});

t.test("a target that is the same makes no work; another address voids the protection at once", async (t) => {
  const { lock, commands, addProcess } = await fixture(t);
  await addProcess(1);
  lock.start();
  lock.set("a", target(1));
  await lock.settled();
  const before = commands.length;
  lock.set("a", target(1));
  await lock.settled();
  t.equal(commands.length, before);
  lock.set("a", target(1, { addresses: ["172.17.0.2", "172.18.0.2"] }));
  t.equal(lock.protectionOf("a").locked, false);
  await lock.settled();
  t.same(lock.protectionOf("a"), { locked: true });
  t.notOk(commands.slice(before).includes(listNamespaces), "its namespace is known");
});

t.test("what changes while a transaction is made goes into the next one, together", async (t) => {
  const { lock, transactions, addProcess } = await fixture(t);
  lock.start();
  await lock.settled();
  for (const pid of [1, 2, 3, 4]) await addProcess(pid);
  lock.set("1", target(1));
  await Promise.resolve();
  for (const pid of [2, 3, 4])
    lock.set(String(pid), target(pid, { macs: [], addresses: [`172.17.0.${pid + 10}`] }));
  await lock.settled();
  t.equal(transactions.length, 3, "the empty table and two changes");
  for (const pid of [1, 2, 3, 4]) t.same(lock.protectionOf(String(pid)), { locked: true });
});

const notLocked: readonly (readonly [string, LockTarget, string])[] = [
  ["without an address", target(1, { addresses: [], macs: [] }), "it has no address of its own"],
  [
    "of an engine on another host",
    target(1, { pidStartedAt: undefined }),
    "its process is not one of this host",
  ],
  [
    "whose process has ended, and another has its pid",
    target(1, { pidStartedAt: 3_999 }),
    "no port of a bridge on this host leads into its network namespace",
  ],
  ["that no port leads into", target(9), "no port of a bridge on this host leads into its network namespace"],
  ["with an obstacle", target(1, { obstacle: "no MAC" }), "no MAC"],
];
for (const [what, one, reason] of notLocked)
  t.test(`a container ${what} is not locked, and the reason is known`, async (t) => {
    const { lock, addProcess } = await fixture(t);
    await addProcess(1);
    lock.start();
    lock.set("a", one);
    await lock.settled();
    t.same(lock.protectionOf("a"), { locked: false, reason });
  });

t.test("a port that is found late is found at the next look", async (t) => {
  const { lock, host, changes, addProcess } = await fixture(t);
  await addProcess(1);
  host.ports.length = 0;
  lock.start();
  lock.set("a", target(1));
  await lock.settled();
  t.equal(lock.protectionOf("a").locked, false);
  host.ports.push({ index: 10, id: 1 });
  lock.lookAgain();
  await lock.settled();
  t.same(lock.protectionOf("a"), { locked: true });
  t.same(changes.at(-1), ["a"]);
});

t.test("a container cannot shed its lock by moving its interface to another namespace", async (t) => {
  const { lock, host, transactions, addProcess } = await fixture(t);
  await addProcess(1);
  lock.start();
  lock.set("a", target(1));
  await lock.settled();
  const before = transactions.length;
  host.ports = [{ index: 10, id: 77 }];
  lock.lookAgain();
  await lock.settled();
  t.equal(transactions.length, before, "the port is still its own");
  host.ports = [];
  lock.lookAgain();
  await lock.settled();
  t.match(transactions.at(-1), /delete element bridge ec2metaproxy_lock owned \{ 10 \}/, "until it is gone");
});

t.test("an ended container does not get the ports of a namespace that has its id now", async (t) => {
  const { lock, host, transactions, addProcess, procRoot } = await fixture(t);
  await addProcess(1);
  lock.start();
  lock.set("a", target(1));
  await lock.settled();
  const before = transactions.length;
  await rm(join(procRoot, "1"), { recursive: true });
  host.ports.push({ index: 99, id: 1 });
  lock.lookAgain();
  await lock.settled();
  t.equal(transactions.length, before);
});

t.test("two containers with one hardware address on a bridge are not locked", async (t) => {
  const { lock, host, addProcess } = await fixture(t);
  host.ports.push({ index: 30, id: 3, bridge: "br-1" });
  for (const pid of [1, 2, 3]) await addProcess(pid);
  lock.start();
  for (const pid of [1, 2, 3]) lock.set(String(pid), target(pid, { addresses: [`172.17.0.${pid}`] }));
  await lock.settled();
  const reason = /another container on its bridge has the same hardware address/;
  t.match(lock.protectionOf("1"), { locked: false, reason });
  t.match(lock.protectionOf("2"), { locked: false, reason });
  t.same(lock.protectionOf("3"), { locked: true }, "on another bridge");
  lock.delete("2");
  await lock.settled();
  t.same(lock.protectionOf("1"), { locked: true });
});

for (const bridge of ["a;b", "57"])
  t.test(
    `a container on a bridge called ${bridge} is not locked: its entries are not forgotten`,
    async (t) => {
      const { lock, host, forgotten, addProcess } = await fixture(t);
      host.ports.push({ index: 10, id: 1, bridge });
      await addProcess(1);
      lock.start();
      lock.set("a", target(1));
      await lock.settled();
      t.match(lock.protectionOf("a"), { locked: false, reason: /the name of its bridge/ });
      t.same(forgotten, []);
    },
  );

t.test("a port whose index is another link's name is not locked, as long as that is so", async (t) => {
  const { lock, host, transactions, addProcess } = await fixture(t);
  await addProcess(1);
  await addProcess(2);
  lock.start();
  lock.set("a", target(1));
  lock.set("b", target(2, { macs: [], addresses: ["172.17.0.3"] }));
  await lock.settled();
  t.same(lock.protectionOf("a"), { locked: true });
  host.ports.push({ index: 91, name: "10" });
  lock.lookAgain();
  await lock.settled();
  t.match(lock.protectionOf("a"), { locked: false, reason: /another link of this host has the index/ });
  t.same(lock.protectionOf("b"), { locked: true });
  t.match(transactions.at(-1), /^add table [\s\S]*portless_ipv4 .*0xac110002/, "the whole table");
  t.notMatch(transactions.at(-1), /10 \. 0xac110002/);
  host.ports.pop();
  lock.lookAgain();
  await lock.settled();
  t.same(lock.protectionOf("a"), { locked: true });
  t.match(transactions.at(-1), /add element bridge ec2metaproxy_lock port_ipv4 \{ 10 \. 0xac110002 \}/);
});

t.test("a port that leads into another container now is that one's", async (t) => {
  const { lock, host, transactions, addProcess } = await fixture(t);
  await addProcess(1);
  await addProcess(2);
  lock.start();
  lock.set("a", target(1));
  lock.set("b", target(2, { macs: [], addresses: ["172.17.0.3"] }));
  await lock.settled();
  host.ports = [
    { index: 10, id: 2 },
    { index: 20, id: 2 },
  ];
  lock.lookAgain();
  await lock.settled();
  t.match(transactions.at(-1), /delete element bridge ec2metaproxy_lock port_ipv4 \{ 10 \. 0xac110002 \}/);
  t.match(transactions.at(-1), /add element bridge ec2metaproxy_lock port_ipv4 \{ 10 \. 0xac110003 \}/);
});

t.test("a change that does not fit the kernel's table is followed by the whole table", async (t) => {
  const { lock, transactions, answers, troubles, addProcess } = await fixture(t);
  lock.start();
  await lock.settled();
  await addProcess(1);
  answers.nft = (text) => (text.startsWith("add table") ? ran() : failed("No such file or directory"));
  lock.set("a", target(1));
  await lock.settled();
  t.match(transactions.at(-1), /^add table [\s\S]*10 \. 0xac110002/);
  t.same(lock.protectionOf("a"), { locked: true });
  t.same(troubles.at(-1), undefined);
});

t.test("where the lock cannot be made, nobody is locked and the attempts become rarer", async (t) => {
  const { lock, answers, troubles, retries, addProcess } = await fixture(t);
  await addProcess(1);
  answers.nft = () => failed("Error: Could not process rule: Operation not supported");
  lock.start();
  lock.set("a", target(1));
  await lock.settled();
  t.match(lock.protectionOf("a"), { locked: false, reason: /Operation not supported/ });
  t.match(troubles.at(-1), /writing table bridge ec2metaproxy_lock: nft: .*Operation not supported/);
  const delays: number[] = [];
  for (let round = 0; round < 8; round++) {
    const retry = retries.pop();
    delays.push(retry?.ms ?? 0);
    retry?.act();
    await lock.settled();
  }
  t.same(delays, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
  answers.nft = () => ran();
  retries.pop()?.act();
  await lock.settled();
  t.same(lock.protectionOf("a"), { locked: true });
  t.equal(troubles.at(-1), undefined);
});

t.test("as long as the host may send answers to a forger, a container is not locked", async (t) => {
  const { lock, answers, retries, addProcess } = await fixture(t);
  await addProcess(1);
  answers.ip = () => failed("RTNETLINK answers: Operation not permitted");
  lock.start();
  lock.set("a", target(1));
  await lock.settled();
  t.match(lock.protectionOf("a"), { locked: false, reason: /removing neighbour entries/ });
  answers.ip = () => ran();
  retries.pop()?.act();
  await lock.settled();
  t.same(lock.protectionOf("a"), { locked: true });
});

const leavings: readonly (readonly [
  string,
  (scene: Awaited<ReturnType<typeof fixture>>) => Promise<void>,
])[] = [
  [
    "a container that was disconnected for a while",
    async ({ lock }) => {
      lock.set("a", target(1, { addresses: ["172.18.0.2"] }));
      await lock.settled();
      lock.set("a", target(1, { addresses: ["172.17.0.2", "172.18.0.2"] }));
    },
  ],
  [
    "a container that was disconnected and connected at once",
    async ({ lock }) => {
      lock.set("a", target(1, { addresses: ["172.18.0.2"] }));
      lock.set("a", target(1, { addresses: ["172.17.0.2", "172.18.0.2"] }));
    },
  ],
  [
    "a port that was off its bridge for a while",
    async ({ lock, host }) => {
      const { ports } = host;
      host.ports = [];
      lock.lookAgain();
      await lock.settled();
      host.ports = ports;
      lock.lookAgain();
    },
  ],
  ["a lock that was flushed", async ({ lock }) => lock.changedBy([])],
  [
    "a lock that may have lapsed",
    async ({ lock, clock }) => {
      clock.now = 120_000;
      await lock.refresh();
    },
  ],
  [
    "a lock that was off",
    async ({ lock }) => {
      lock.switchOff("LAYER2=off");
      await lock.settled();
      lock.switchOff(undefined);
    },
  ],
  [
    "a table that did not take a change",
    async ({ lock, answers }) => {
      answers.nft = (text) => (text.startsWith("add table") ? ran() : failed("No such file or directory"));
      lock.set("b", target(0, { macs: [], addresses: ["172.17.0.9"] }));
    },
  ],
  [
    "a table that could not be written for a while",
    async ({ lock, answers, retries }) => {
      answers.nft = () => failed("Cannot allocate memory");
      lock.set("b", target(0, { macs: [], addresses: ["172.17.0.9"] }));
      await lock.settled();
      answers.nft = () => ran();
      retries.pop()?.act();
    },
  ],
];
for (const [what, leave] of leavings)
  t.test(`the host forgets addresses again after ${what}`, async (t) => {
    const scene = await fixture(t);
    const { lock, forgotten, addProcess } = scene;
    await addProcess(1);
    lock.start();
    lock.set("a", target(1, { addresses: ["172.17.0.2", "172.18.0.2"] }));
    await lock.settled();
    t.same(lock.protectionOf("a"), { locked: true });
    forgotten.length = 0;
    await leave(scene);
    await lock.settled();
    t.same(lock.protectionOf("a"), { locked: true });
    t.ok(forgotten.includes("neigh flush to 172.17.0.2 dev docker0"), forgotten.join("; "));
  });

t.test("as long as nothing happens to the lock, the host forgets an address once", async (t) => {
  const { lock, forgotten, addProcess } = await fixture(t);
  await addProcess(1);
  await addProcess(2);
  lock.start();
  lock.set("a", target(1));
  await lock.settled();
  lock.lookAgain();
  lock.set("b", target(2, { macs: [], addresses: ["172.17.0.3"] }));
  await lock.settled();
  t.same(forgotten, ["neigh flush to 172.17.0.2 dev docker0", "neigh flush to 172.17.0.3 dev docker0"]);
});

for (const [what, outcome] of [
  ["fails", failed("Cannot open network namespace")],
  ["is not installed", { kind: "missing" }],
] as const satisfies readonly (readonly [string, Outcome])[])
  t.test(`where ip ${what}, only containers that it should find are not locked`, async (t) => {
    const { lock, answers, retries, troubles, transactions, addProcess, namespacesFolder } = await fixture(t);
    await addProcess(1);
    await addProcess(2);
    await addProcess(3);
    lock.start();
    lock.set("ended", target(1));
    lock.set("other", target(2, { macs: [], addresses: ["172.17.0.3"] }));
    await lock.settled();
    const { namespaces } = answers;
    answers.namespaces = async () => outcome;
    lock.delete("ended");
    lock.set("new", target(3));
    lock.lookAgain();
    await lock.settled();
    const written = transactions.join("");
    t.match(written, /delete element bridge ec2metaproxy_lock port_ipv4 \{ 10 \. 0xac110002 \}/);
    t.same(lock.protectionOf("other"), { locked: true });
    t.match(lock.protectionOf("new"), { locked: false, reason: /reading the network namespaces: ip: / });
    t.match(troubles.at(-1), /reading the network namespaces/);
    await lock.refresh();
    t.same(lock.protectionOf("other"), { locked: true });
    t.same(await readdir(namespacesFolder), [], "no link is left behind");
    answers.namespaces = namespaces;
    retries.pop()?.act();
    await lock.settled();
    t.same(lock.protectionOf("new"), { locked: true });
    t.equal(troubles.at(-1), undefined);
  });

t.test("the addresses of an ended container are free before another one is looked for", async (t) => {
  const { lock, answers, transactions, addProcess } = await fixture(t);
  await addProcess(1);
  await addProcess(2);
  lock.start();
  lock.set("ended", target(1));
  await lock.settled();
  const { namespaces } = answers;
  let seen: string | undefined;
  answers.namespaces = () => {
    seen = transactions.at(-1);
    return namespaces();
  };
  lock.delete("ended");
  lock.set("new", target(2));
  await lock.settled();
  t.match(seen, /delete element bridge ec2metaproxy_lock port_ipv4 \{ 10 \. 0xac110002 \}/);
  t.match(transactions.at(-1), /add element bridge ec2metaproxy_lock port_ipv4 \{ 20 \. 0xac110002 \}/);
});

t.test(
  "for a container without addresses, such as one on the host's network, nothing is looked for",
  async (t) => {
    const { lock, commands, addProcess } = await fixture(t);
    await addProcess(1);
    lock.start();
    lock.set("a", target(1, { macs: [], addresses: [] }));
    lock.lookAgain();
    await lock.settled();
    t.same(commands, ["ip -j -d link show", "nft -f -"], "but for the ports of strangers");
  },
);

t.test("a port that could not be looked for is looked for again", async (t) => {
  const { lock, host, retries, addProcess } = await fixture(t);
  await addProcess(1);
  lock.start();
  await lock.settled();
  const { ports } = host;
  Object.defineProperty(host, "ports", {
    configurable: true,
    get: () => {
      throw new Error("ip was killed");
    },
  });
  lock.set("a", target(1));
  await lock.settled();
  t.match(lock.protectionOf("a"), { locked: false, reason: /ip was killed/ });
  Object.defineProperty(host, "ports", { value: ports });
  retries.pop()?.act();
  await lock.settled();
  t.same(lock.protectionOf("a"), { locked: true });
});

t.test(
  "its own transactions are recognised, and those of others make it write the whole table",
  async (t) => {
    const { lock, transactions, addProcess, clock } = await fixture(t);
    await addProcess(1);
    lock.start();
    lock.set("a", target(1));
    await lock.settled();
    await lock.refresh();
    const before = transactions.length;
    const marks = transactions.map((text) => Number(/writer \{.*?(\d+) \}/.exec(text)?.[1]));
    t.equal(new Set(marks).size, marks.length, "each has its own mark");
    for (const mark of marks) lock.changedBy([mark]);
    await lock.settled();
    t.equal(transactions.length, before);
    for (const foreign of [[], [1], [...marks, 1], [2 ** 30 + 1_000]]) {
      clock.now += 1_000;
      lock.changedBy(foreign);
      await lock.settled();
      t.match(transactions.at(-1), /^add table [\s\S]*10 \. 0xac110002/, JSON.stringify(foreign));
    }
    t.equal(transactions.length, before + 4);
  },
);

t.test("a program that changes the table all the time is answered twice a second", async (t) => {
  const { lock, transactions, retries, clock } = await fixture(t);
  lock.start();
  await lock.settled();
  const before = transactions.length;
  for (let count = 0; count < 100; count++) {
    lock.changedBy([]);
    await lock.settled();
  }
  t.equal(transactions.length - before, 2);
  t.same(
    retries.map(({ ms }) => ms),
    [500],
  );
  clock.now += 500;
  retries.pop()?.act();
  await lock.settled();
  t.equal(transactions.length - before, 3, "the last change is not forgotten");
});

t.test("a refresh writes the whole table, and with it the dead man's switch", async (t) => {
  const { lock, transactions, commands, forgotten, addProcess, answers, clock } = await fixture(t);
  await addProcess(1);
  lock.start();
  lock.set("a", target(1));
  await lock.settled();
  const before = { commands: commands.length, forgotten: forgotten.length };
  clock.now = 119_999;
  await lock.refresh();
  t.equal(transactions.length, 2);
  t.same(commands.slice(before.commands), ["nft -f -"], "nothing is looked for");
  t.equal(forgotten.length, before.forgotten, "there was no gap");
  t.match(transactions.at(-1), /^add table [\s\S]*alive [\s\S]*"veth" timeout 120s[\s\S]*10 \. 0xac110002/);
  t.same(lock.protectionOf("a"), { locked: true });
  answers.nft = () => failed("Cannot allocate memory");
  await lock.refresh();
  t.match(lock.protectionOf("a"), { locked: false, reason: /Cannot allocate memory/ });
});

for (const [when, isWhole] of [
  ["a change", false],
  ["the whole table", true],
] as const)
  t.test(`a loss that is noticed while ${when} is being written is made up for`, async (t) => {
    const { lock, transactions, answers, addProcess, clock } = await fixture(t);
    await addProcess(1);
    if (!isWhole) {
      lock.start();
      await lock.settled();
    }
    const before = transactions.length;
    const seen: boolean[] = [];
    answers.nft = () => {
      seen.push(lock.protectionOf("a").locked);
      // nft monitor reports a flush before nft has ended.
      if (seen.length === 1) {
        clock.now += 1_000;
        lock.changedBy([]);
      }
      return ran();
    };
    lock.set("a", target(1));
    if (isWhole) lock.start();
    await lock.settled();
    t.equal(transactions.length - before, 2);
    t.equal(transactions[before]?.startsWith("add table"), isWhole);
    t.match(transactions.at(-1), /^add table [\s\S]*10 \. 0xac110002/);
    t.same(seen, [false, false], "the container is not locked in between");
    t.same(lock.protectionOf("a"), { locked: true });
  });

t.test("switched off, there is no table, and each container has the reason", async (t) => {
  const { lock, transactions, addProcess } = await fixture(t);
  await addProcess(1);
  lock.start();
  lock.set("a", target(1));
  await lock.settled();
  lock.switchOff("LAYER2=off");
  await lock.settled();
  t.equal(transactions.at(-1), "add table bridge ec2metaproxy_lock\ndelete table bridge ec2metaproxy_lock\n");
  t.same(lock.protectionOf("a"), { locked: false, reason: "LAYER2=off" });
  const before = transactions.length;
  lock.changedBy([]);
  await lock.refresh();
  await lock.settled();
  t.equal(transactions.length, before, "its removal is not taken for somebody else's");
  lock.switchOff(undefined);
  await lock.settled();
  t.same(lock.protectionOf("a"), { locked: true });
});

t.test("after it was closed, nothing is changed", async (t) => {
  const { lock, transactions, addProcess } = await fixture(t);
  await addProcess(1);
  lock.start();
  await lock.close();
  const before = transactions.length;
  lock.set("a", target(1));
  lock.rebuild();
  await lock.refresh();
  t.equal(transactions.length, before);
});

const elementsOf = (transaction: string | undefined, set: string) =>
  new RegExp(`set ${set} \\{ [^}]*elements = \\{ ([^}]*) \\}`).exec(transaction ?? "")?.[1] ?? "";

t.test("a port that has been on a bridge for 5 s is not that of a container that starts", async (t) => {
  const { lock, host, transactions, clock } = await fixture(t);
  host.ports.push({ index: 77, id: 7 });
  lock.start();
  await lock.settled();
  for (const [now, settled] of [
    [4_999, ""],
    [5_000, "77"],
  ] as const) {
    clock.now = now;
    lock.set("a", target(0, { pidStartedAt: undefined, addresses: [`172.17.0.${now % 200}`] }));
    await lock.refresh();
    t.equal(elementsOf(transactions.at(-1), "settled"), settled, `after ${now} ms`);
    t.equal(elementsOf(transactions.at(-1), "owned"), "");
  }
  host.ports.pop();
  lock.lookAgain();
  await lock.settled();
  t.match(transactions.at(-1), /delete element bridge ec2metaproxy_lock settled \{ 77 \}/);
});

t.test("what a former guard has locked stays until its port or its address has somebody else", async (t) => {
  const { lock, host, transactions, addProcess } = await fixture(t);
  const [other, third] = ["0xac110009", "0xac11000a"];
  host.ports.push({ index: 77, id: 7 }, { index: 78, id: 8 });
  await addProcess(1);
  lock.set("a", target(1));
  lock.start([
    { port: 77, kind: "ipv4", value: other },
    { port: 78, kind: "ipv4", value: third },
    { port: 79, kind: "ipv4", value: "0xac11000b" },
    { port: 77, kind: "ipv4", value: "0xac110002" },
  ]);
  await lock.settled();
  t.equal(elementsOf(transactions.at(-1), "port_ipv4"), `10 . 0xac110002, 77 . ${other}, 78 . ${third}`);
  t.equal(elementsOf(transactions.at(-1), "owned"), "10, 77, 78");
  t.same(lock.protectionOf("a"), { locked: true });

  lock.set("b", target(0, { pidStartedAt: undefined, macs: [], addresses: ["172.17.0.10"] }));
  await lock.settled();
  t.match(transactions.at(-1), /delete element bridge ec2metaproxy_lock port_ipv4 \{ 78 \. 0xac11000a \}/);
  host.ports = host.ports.filter(({ index }) => index !== 78);
  lock.delete("b");
  lock.lookAgain();
  await lock.settled();
  t.notMatch(transactions.at(-1), /add element bridge ec2metaproxy_lock port_ipv4/, "its port is gone");
  lock.forgetFormer();
  await lock.settled();
  t.match(transactions.at(-1), /delete element bridge ec2metaproxy_lock port_ipv4 \{ 77 \. 0xac110009 \}/);
});

t.test("a container is not locked while this host has another hardware address for it", async (t) => {
  const { lock, host, retries, troubles, addProcess } = await fixture(t);
  await addProcess(1);
  await addProcess(2);
  host.neighbours = [{ dst: "172.17.0.2", dev: "docker0", lladdr: "02:42:ac:11:00:66" }];
  lock.start();
  lock.set("a", target(1));
  lock.set("b", target(2, { macs: ["02:42:ac:11:00:03"], addresses: ["172.17.0.3"] }));
  await lock.settled();
  t.match(lock.protectionOf("a"), { locked: false, isPending: true, reason: /another hardware address/ });
  t.same(lock.protectionOf("b"), { locked: true });
  t.match(troubles.at(-1), /another hardware address for 172\.17\.0\.2 on docker0/);
  host.neighbours = [{ dst: "172.17.0.2", dev: "docker0", lladdr: mac }];
  retries.pop()?.act();
  await lock.settled();
  t.same(lock.protectionOf("a"), { locked: true });
});

t.test("a container whose hardware address no engine names keeps nobody busy", async (t) => {
  const { lock, host, retries, troubles, addProcess } = await fixture(t);
  await addProcess(1);
  host.neighbours = [{ dst: "172.17.0.2", dev: "docker0", lladdr: mac }];
  lock.start();
  lock.set("a", target(1, { macs: [], obstacle: "the engine does not name its hardware address" }));
  await lock.settled();
  t.same(lock.protectionOf("a"), { locked: false, reason: "the engine does not name its hardware address" });
  t.equal(troubles.at(-1), undefined);
  t.same(retries, []);
});

t.test("a container waits for its lock while failures may pass, and no longer", async (t) => {
  const { lock, answers, retries, addProcess } = await fixture(t);
  await addProcess(1);
  answers.namespaces = async () => failed("Resource temporarily unavailable");
  lock.start();
  lock.set("a", target(1));
  await lock.settled();
  for (const isPending of [true, true, true, undefined, undefined]) {
    const protection = lock.protectionOf("a");
    t.equal(protection.locked ? "locked" : protection.isPending, isPending);
    const retry = retries.pop();
    t.ok(retry !== undefined && retry.ms <= 2_000, "a new container does not wait for long");
    retry?.act();
    await lock.settled();
  }
});

t.test("a container whose process seems to have ended keeps its ports", async (t) => {
  const { lock, transactions, addProcess } = await fixture(t);
  await addProcess(1);
  lock.start();
  lock.set("a", target(1));
  await lock.settled();
  lock.set("a", target(1, { pidStartedAt: undefined }));
  await lock.refresh();
  t.equal(elementsOf(transactions.at(-1), "owned"), "10");
  t.match(lock.protectionOf("a"), { locked: false, reason: /not one of this host/ });
});

t.test("a port that is on no bridge is no reason to count as locked", async (t) => {
  const { lock, host, addProcess } = await fixture(t);
  host.ports.push({ index: 10, id: 1, bridge: null });
  await addProcess(1);
  lock.start();
  lock.set("a", target(1));
  await lock.settled();
  t.match(lock.protectionOf("a"), { locked: false, reason: /no port of a bridge/ });
});

t.test("a bridge that could not be asked whether it learns leaves a container unlocked", async (t) => {
  const { lock, answers, retries, host, addProcess } = await fixture(t);
  await addProcess(1);
  answers.bridges = () => failed("Cannot allocate memory");
  lock.start();
  lock.set("a", target(1));
  await lock.settled();
  t.match(lock.protectionOf("a"), { locked: false, isPending: true, reason: /reading the host's bridges/ });
  answers.bridges = undefined;
  retries.pop()?.act();
  await lock.settled();
  t.same(lock.protectionOf("a"), { locked: true });
  // What was found before still holds while they cannot be asked.
  answers.bridges = () => failed("Cannot allocate memory");
  host.ports.push({ index: 11, id: 1 });
  lock.lookAgain();
  await lock.settled();
  t.same(lock.protectionOf("a"), { locked: true });
});
