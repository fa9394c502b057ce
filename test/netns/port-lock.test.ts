import t from "tap";
import { attacker, bystander, type Frame, LockScene, shared, victim } from "./lock-scene.ts";
import { unable } from "./requirements.ts";

const skip = unable(process.env, ["python3", "ss"]) ?? false;

const tags = ["tags=8100:0", "tags=88a8:0"] as const;
const inEachTag = (frame: Frame): readonly Frame[] => [
  frame,
  ...tags.map(
    (tag): Frame => ({ ...frame, what: `${frame.what}, ${tag}`, more: [...(frame.more ?? []), tag] }),
  ),
];

const lies = (linkLocal: string, mac: string): readonly Frame[] => {
  const from = "attacker";
  const advertisement = { from, kind: "na", source: attacker.ipv6, about: victim.ipv6 } as const;
  return [
    ...inEachTag({ what: "ARP reply for the victim", from, kind: "arp", source: victim.ipv4 }),
    { what: "ARP request as the victim", from, kind: "arp", source: victim.ipv4, more: ["operation=1"] },
    ...inEachTag({
      what: "ARP hardware type 6",
      from,
      kind: "arp",
      source: victim.ipv4,
      more: ["hardware=6"],
    }),
    ...inEachTag({ what: "NA for the victim", ...advertisement }),
    { what: "NA for the victim's link-local address", ...advertisement, about: linkLocal },
    { what: "NA behind a hop-by-hop header", ...advertisement, more: ["options=hop"] },
    { what: "NA behind destination options", ...advertisement, more: ["options=destination"] },
    { what: "NS as the victim", from, kind: "ns", source: victim.ipv6, about: bystander.ipv6 },
    { what: "NS as its link-local address", from, kind: "ns", source: linkLocal, about: bystander.ipv6 },
    ...inEachTag({ what: "SYN from the victim's address", from, kind: "syn", source: victim.ipv4 }),
    ...inEachTag({ what: "IPv6 SYN from its address", from, kind: "syn", source: victim.ipv6 }),
    { what: "IPv6 SYN behind a header", from, kind: "syn", source: victim.ipv6, more: ["options=hop"] },
    ...inEachTag({
      what: "a frame with the victim's MAC",
      from,
      kind: "odd",
      source: "",
      more: [`from=${mac}`],
    }),
  ];
};

const honest: readonly Frame[] = [
  ...inEachTag({ what: "the victim's ARP reply", from: "victim", kind: "arp", source: victim.ipv4 }),
  ...inEachTag({ what: "its NA", from: "victim", kind: "na", source: victim.ipv6, about: victim.ipv6 }),
  ...inEachTag({ what: "its SYN", from: "victim", kind: "syn", source: victim.ipv4 }),
  ...inEachTag({ what: "its IPv6 SYN", from: "victim", kind: "syn", source: victim.ipv6 }),
  { what: "an ARP reply for a shared address", from: "attacker", kind: "arp", source: shared.ipv4 },
  { what: "the same from another", from: "victim", kind: "arp", source: shared.ipv4 },
  {
    what: "an NA for a shared address",
    from: "attacker",
    kind: "na",
    source: attacker.ipv6,
    about: shared.ipv6,
  },
  { what: "a SYN from a shared address", from: "victim", kind: "syn", source: shared.ipv4 },
  { what: "an IPv6 SYN from one", from: "victim", kind: "syn", source: shared.ipv6 },
  {
    what: "a frame with a MAC that is nobody's",
    from: "attacker",
    kind: "odd",
    source: "",
    more: ["from=02:42:99:99:99:99"],
  },
];

/** Frames from the victim's MAC to link-local addresses. Netfilter sees none of LLDP (0e) on a bridge. */
const unseen = (mac: string): readonly Frame[] =>
  ["02", "03", "0e", "0f"].map((last) => ({
    what: `a frame with the victim's MAC to 01:80:c2:00:00:${last}`,
    from: "attacker",
    kind: "odd",
    source: "",
    more: [`from=${mac}`, `to=01:80:c2:00:00:${last}`],
  }));

t.test("nobody takes over a MAC by frames that no rule sees", { timeout: 120_000, skip }, async (t) => {
  await using scene = await LockScene.make();
  const { world, lock } = scene;
  const frames = unseen(world.mac("victim", "eth0"));
  await scene.expect(t, "link-local, without the lock", frames, []);
  await scene.lockAll();
  t.same(lock.protectionOf("victim"), { locked: true });
  await scene.expect(t, "link-local, with the lock", [], frames);

  // Somebody lets the bridge learn again.
  world.ip("host", "link", "set", "docker0", "type", "bridge", "no_linklocal_learn", "0");
  await scene.expect(t, "link-local, learning", frames, []);
  lock.lookAgain();
  await lock.settled();
  await scene.expect(t, "link-local, looked again", [], frames);
});

t.test("what the host believed before the lock is forgotten", { timeout: 120_000, skip }, async (t) => {
  await using scene = await LockScene.make();
  const { world, lock } = scene;
  const entries = (...words: readonly string[]) => {
    for (const address of [victim.ipv4, victim.ipv6])
      world.ip("host", "neigh", "replace", address, "lladdr", world.mac("attacker", "eth0"), ...words);
  };
  const believed = () => world.ip("host", "neigh", "show", "nud", "all", "dev", "docker0");
  const mac = world.mac("attacker", "eth0");
  await scene.lockAll();
  world.ip("host", "neigh", "flush", "all");
  for (const state of ["stale", "reachable", "noarp"]) {
    // Entries of other containers, and one of the victim's own, are not there: this must not matter.
    entries("dev", "docker0", "nud", state);
    t.match(believed(), mac);
    lock.rebuild();
    await lock.settled();
    if (state !== "noarp") t.notMatch(believed(), mac, state);
    t.equal(lock.protectionOf("victim").locked, state !== "noarp", state);
    t.equal(lock.protectionOf("attacker").locked, true);
  }
  world.ip("host", "neigh", "del", victim.ipv4, "dev", "docker0");
  world.ip("host", "neigh", "del", victim.ipv6, "dev", "docker0");
  lock.rebuild();
  await lock.settled();
  t.same(lock.protectionOf("victim"), { locked: true });
});

t.test("nobody on a bridge speaks as another container", { timeout: 300_000, skip }, async (t) => {
  await using scene = await LockScene.make();
  const { world, lock } = scene;
  const false_ = lies(scene.linkLocal, world.mac("victim", "eth0"));

  await scene.expect(t, "without the lock", [...false_, ...honest], []);
  await scene.lockAll();
  t.same(
    ["victim", "attacker", "bystander"].map((id) => lock.protectionOf(id)),
    [{ locked: true }, { locked: true }, { locked: true }],
  );
  await scene.expect(t, "with the lock", honest, false_);

  // Somebody flushes everything.
  world.exec("host", "nft", "flush", "ruleset");
  await scene.expect(t, "flushed", [...false_, ...honest], []);
  lock.rebuild();
  await lock.settled();
  await scene.expect(t, "rebuilt", honest, false_);

  // A port that is renamed is still the same port.
  world.ip("host", "link", "set", "veth-1-2", "down");
  world.ip("host", "link", "set", "veth-1-2", "name", "renamed0");
  world.ip("host", "link", "set", "renamed0", "up");
  await scene.expect(t, "renamed", honest, false_);

  await lock.refresh();
  await scene.expect(t, "refreshed", honest, false_);
  lock.delete("victim");
  await lock.settled();
  await scene.expect(t, "the victim gone", [...false_, ...honest], []);
});

t.test(
  "the addresses of a container that starts are nobody else's",
  { timeout: 300_000, skip },
  async (t) => {
    await using scene = await LockScene.make();
    const { world, lock } = scene;
    const false_ = lies(scene.linkLocal, world.mac("victim", "eth0"));
    await scene.lockAll();
    lock.set("victim", { ...(await scene.target("victim")), pid: 0 });
    await lock.settled();
    t.same(lock.protectionOf("victim"), { locked: false, reason: "it has not started yet", isPending: true });
    await scene.expect(t, "starting", honest, false_);
    lock.set("victim", await scene.target("victim"));
    await lock.settled();
    t.same(lock.protectionOf("victim"), { locked: true });
    await scene.expect(t, "started", honest, false_);
  },
);

t.test(
  "a locked container keeps addresses that one without ports has too",
  { timeout: 120_000, skip },
  async (t) => {
    await using scene = await LockScene.make();
    const { lock, world } = scene;
    await scene.lockAll();
    const { macs, addresses } = await scene.target("victim");
    const without = { macs: [], addresses: [], pid: 0, pidStartedAt: undefined, obstacle: undefined };
    lock.set("remote", { ...without, addresses, pid: 4_242_424 });
    lock.set("starting", { ...without, macs });
    await lock.settled();
    t.same(lock.protectionOf("victim"), { locked: true });
    const false_ = lies(scene.linkLocal, world.mac("victim", "eth0"));
    await scene.expect(t, "with the same addresses", honest, false_);
  },
);

t.test(
  "what the host learned from a forger is forgotten with the lock",
  { timeout: 60_000, skip },
  async (t) => {
    await using scene = await LockScene.make();
    const { world, lock } = scene;
    await scene.lockAll();
    const forger = world.mac("attacker", "eth0");
    const entry = () => world.ip("host", "neigh", "show", victim.ipv4, "dev", "docker0");
    /** What a believed frame of the attacker leaves. */
    const forge = () => {
      const where = ["dev", "docker0", "nud", "reachable"];
      world.ip("host", "neigh", "replace", victim.ipv4, "lladdr", forger, ...where);
      t.match(entry(), forger, "the host takes the attacker for the victim");
    };

    world.exec("host", "nft", "flush", "ruleset");
    forge();
    lock.rebuild();
    await lock.settled();
    t.notMatch(entry(), forger, "after a flush");

    const target = await scene.target("victim");
    lock.set("victim", { ...target, addresses: [victim.ipv6] });
    await lock.settled();
    world.ip("host", "link", "set", "veth-1-2", "nomaster");
    forge();
    world.ip("host", "link", "set", "veth-1-2", "master", "docker0");
    lock.set("victim", target);
    await lock.settled();
    t.notMatch(entry(), forger, "after the container was disconnected and connected again");
    t.same(lock.protectionOf("victim"), { locked: true });
  },
);

t.test(
  "a link named like a port's index gets no container's addresses",
  { timeout: 60_000, skip },
  async (t) => {
    await using scene = await LockScene.make();
    const { world, lock } = scene;
    await scene.lockAll();
    const lie: Frame = { what: "SYN", from: "attacker", kind: "syn", source: victim.ipv4 };
    const own: Frame = { ...lie, from: "victim" };
    await scene.expect(t, "before", [own], [lie]);
    const port = /^\d+/.exec(world.ip("host", "-o", "link", "show", "veth-1-2"))?.[0] ?? "";
    // As a container with NET_ADMIN and without a user namespace can do.
    world.ip("host", "link", "set", "veth-1-3", "down");
    world.ip("host", "link", "set", "veth-1-3", "name", port, "up");
    lock.rebuild();
    await lock.settled();
    t.match(lock.protectionOf("victim"), { locked: false, reason: /another link of this host/ });
    t.same(lock.protectionOf("attacker"), { locked: true });
    await scene.expect(t, "with a link of that name", [own], [lie]);
    world.ip("host", "link", "set", port, "down");
    world.ip("host", "link", "set", port, "name", "veth-1-3", "up");
    lock.rebuild();
    await lock.settled();
    t.same(lock.protectionOf("victim"), { locked: true });
    await scene.expect(t, "without it", [own], [lie]);
  },
);

t.test("a lock that nobody refreshes lapses", { timeout: 60_000, skip }, async (t) => {
  await using scene = await LockScene.make();
  await scene.lockAll();
  const lie: Frame = { what: "ARP reply", from: "attacker", kind: "arp", source: victim.ipv4 };
  await scene.expect(t, "in force", [], [lie]);
  scene.world.exec("host", "nft", "flush", "set", "bridge", "ec2metaproxy_lock", "alive");
  await scene.expect(t, "lapsed", [lie], []);
  await scene.lock.refresh();
  await scene.expect(t, "refreshed", [], [lie]);
});
