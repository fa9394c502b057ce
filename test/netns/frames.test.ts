import type { ChildProcess } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import t, { type Test as Tap } from "tap";
import type { Run } from "../../src/firewall/command.ts";
import { command, filters } from "./backends.ts";
import { unable } from "./requirements.ts";
import { hostOn, hostOnLan, metadata, World } from "./world.ts";

const skip = unable(process.env, ["python3", "ss", "ebtables-nft"]) ?? false;

const docker = { name: "docker0", container: "victim", net: 1 } as const;
const victim = { ipv4: "172.30.1.2", ipv6: "fd30:1::2" } as const;
const attacker = { ipv4: "172.30.1.3", ipv6: "fd30:1::3" } as const;
/** An address that no container was given: a virtual address that moves between containers. */
const shared = "172.30.1.77";
const host = hostOn(1);

/** What the sender claims. Its kind decides how to see whether the victim accepted it. */
type Frame = {
  readonly what: string;
  readonly kind: "arp" | "na" | "ns" | "syn" | "ra" | "redirect";
  readonly source: string;
  /** The address that an NA or NS is about. */
  readonly about?: string;
  readonly more?: readonly string[];
};

/** Unused link-local addresses: of a router beside the host, and of the one that a forged frame points to. */
const router = "fe80::77";
const nextRouter = "fe80::66";
/** Addresses behind that router. */
const remote = (n: number) => `2001:db8:77::${n.toString(16)}`;

/** Linux treats frames with one or more tags for VLAN 0 as untagged. */
const tagged = [
  { name: "VLAN 0", tags: "tags=8100:0" },
  { name: "802.1ad VLAN 0", tags: "tags=88a8:0" },
  { name: "two VLAN 0", tags: "tags=8100:0,8100:0" },
  { name: "802.1ad and VLAN 0", tags: "tags=88a8:0,8100:0" },
  { name: "VLAN 0 and 802.1ad", tags: "tags=8100:0,88a8:0" },
  { name: "three VLAN 0", tags: "tags=8100:0,8100:0,8100:0" },
] as const;

const single = tagged.slice(0, 2);

function inEachTag(frame: Frame, tags: readonly (typeof tagged)[number][] = tagged): readonly Frame[] {
  const inTag = tags.map(
    ({ name, tags }): Frame => ({
      ...frame,
      what: `${frame.what}, ${name}`,
      more: [...(frame.more ?? []), tags],
    }),
  );
  return [frame, ...inTag];
}

function forged(linkLocal: string): readonly Frame[] {
  const advertisement = { kind: "na", source: attacker.ipv6, about: host.ipv6 } as const;
  return [
    ...inEachTag({ what: "ARP reply for the host", kind: "arp", source: host.ipv4 }),
    { what: "ARP request as the host", kind: "arp", source: host.ipv4, more: ["operation=1"] },
    ...inEachTag({ what: "ARP hardware type 6", kind: "arp", source: host.ipv4, more: ["hardware=6"] }),
    ...inEachTag({ what: "NA for the host", ...advertisement }),
    { what: "NA for the host's link-local address", ...advertisement, about: linkLocal },
    { what: "NA behind a hop-by-hop header", ...advertisement, more: ["options=hop"] },
    { what: "NA behind destination options", ...advertisement, more: ["options=destination"] },
    { what: "NS as the host", kind: "ns", source: host.ipv6, about: victim.ipv6 },
    { what: "NS as the host's link-local address", kind: "ns", source: linkLocal, about: victim.ipv6 },
    ...inEachTag({ what: "router advertisement", kind: "ra", source: nextRouter }),
    {
      what: "router advertisement behind a hop-by-hop header",
      kind: "ra",
      source: nextRouter,
      more: ["options=hop"],
    },
    ...inEachTag(
      { what: "redirect", kind: "redirect", source: router, more: [`next=${nextRouter}`] },
      single,
    ),
    ...inEachTag({ what: "SYN from the proxy's port", kind: "syn", source: host.ipv4 }),
    { what: "SYN from the metadata service", kind: "syn", source: metadata.ipv4 },
    { what: "SYN from the host's LAN address", kind: "syn", source: hostOnLan.ipv4 },
    { what: "SYN from another bridge's address", kind: "syn", source: "172.30.2.1" },
    ...inEachTag({
      what: "IPv6 SYN from the proxy's port",
      kind: "syn",
      source: host.ipv6,
    }),
    { what: "IPv6 SYN from the metadata service", kind: "syn", source: metadata.ipv6 },
    {
      what: "SYN behind a hop-by-hop header",
      kind: "syn",
      source: host.ipv6,
      more: ["options=hop"],
    },
    { what: "IPv6 SYN, host's link-local address", kind: "syn", source: linkLocal },
  ];
}

const honest: readonly Frame[] = [
  ...inEachTag({ what: "its own ARP reply", kind: "arp", source: attacker.ipv4 }, single),
  { what: "an ARP reply for a shared address", kind: "arp", source: shared },
  ...inEachTag({ what: "its own NA", kind: "na", source: attacker.ipv6, about: attacker.ipv6 }, single),
  ...inEachTag({ what: "its own SYN", kind: "syn", source: attacker.ipv4 }, single),
  ...inEachTag({ what: "its own IPv6 SYN", kind: "syn", source: attacker.ipv6 }, single),
  { what: "a SYN from a shared address", kind: "syn", source: shared },
];

/**
 * Through a bridge port that is the end of a tunnel: anyone who reaches the host can send frames out of it.
 */
function tunnelled(): readonly Frame[] {
  const more = [`vxlan=${host.ipv4}`];
  return [
    { what: "ARP reply for the host, out of a tunnel", kind: "arp", source: host.ipv4, more },
    { what: "NA for the host, out of a tunnel", kind: "na", source: attacker.ipv6, about: host.ipv6, more },
    { what: "SYN from the metadata service, out of a tunnel", kind: "syn", source: metadata.ipv4, more },
    { what: "IPv6 SYN from the proxy's port, out of a tunnel", kind: "syn", source: host.ipv6, more },
    { what: "router advertisement, out of a tunnel", kind: "ra", source: nextRouter, more },
  ];
}

for (const filter of filters) {
  t.test(`${filter.name}: no container can speak as the host`, { timeout: 300_000, skip }, async (t) => {
    await using world = await World.make();
    const run = world.hostRun(filter.rename);
    const settings = t.testdir({});
    world.addBridge(docker);
    world.addBridge({ name: "br-other", container: "other", net: 2 });
    world.addContainer(docker, "attacker", 3);
    world.sysctl("victim", "net.ipv4.neigh.eth0.locktime=0");
    using forger = new Forger(world);
    const linkLocal = await bridgeLinkLocal(world);
    const forgeries = [...forged(linkLocal), ...tunnelled()];
    world.ip("host", "link", "add", "vx0", "type", "vxlan", "id", "42", "dstport", "4789", "dev", "eth0");
    world.ip("host", "link", "set", "vx0", "master", "docker0", "up");
    await world.tell("victim", {
      do: "listen",
      protocol: "tcp",
      address: "::",
      port: 7000,
      banner: "victim",
    });
    const apply = () => command(run, "apply", settings, filter.backend);
    const status = () => command(run, "status", settings, filter.backend);

    await accepts(t, world, forger, `${filter.name}, without rules`, [...forgeries, ...honest], []);
    t.match((await apply()).text, "layer 2: table bridge ec2metaproxy");
    t.equal((await status()).code, 0, "status says that everything is in place");
    await accepts(t, world, forger, `${filter.name}, with the rules`, honest, forgeries);
    t.match((await apply()).text, "already in place", "a second apply changes nothing");
    await othersStillTalk(t, world);

    world.exec("host", "nft", "delete", "table", "bridge", "ec2metaproxy");
    await accepts(t, world, forger, `${filter.name}, with all but layer 2`, [...forgeries, ...honest], []);
    const lost = await status();
    t.equal(lost.code, 1);
    t.match(lost.text, "missing: table bridge ec2metaproxy");
    await apply();
    await accepts(t, world, forger, `${filter.name}, repaired`, honest, forgeries);

    const later: Frame = {
      what: "SYN from a new address",
      kind: "syn",
      source: "10.99.0.1",
    };
    world.ip("host", "addr", "add", "10.99.0.1/24", "dev", "docker0");
    await accepts(t, world, forger, `${filter.name}, a new address of the host`, [later], []);
    t.match(await status(), { code: 1, text: "missing: table bridge ec2metaproxy: the address 10.99.0.1" });
    await apply();
    await accepts(t, world, forger, `${filter.name}, a new address, followed`, honest, [later]);
    world.ip("host", "addr", "del", "10.99.0.1/24", "dev", "docker0");
    t.match(await status(), {
      code: 1,
      text: "not ours: table bridge ec2metaproxy: the address 10.99.0.1",
    });

    writeFileSync(join(settings, "firewall.conf"), "LAYER2=off\n");
    t.match((await apply()).text, "LAYER 2 OPEN: a neighbour with NET_RAW can speak as the host");
    t.match(await status(), { code: 0, text: "LAYER 2 OPEN" });
    await accepts(t, world, forger, `${filter.name}, LAYER2=off`, [...forgeries, ...honest], []);
    writeFileSync(join(settings, "firewall.conf"), "");
    await apply();
    world.exec("host", "nft", "add table bridge ec2metaproxy_lock");
    await command(run, "remove", settings);
    t.notMatch(
      world.exec("host", "nft", "list", "tables"),
      "ec2metaproxy",
      "remove deletes the tables, the guard's too",
    );
  });
}

t.test("a kernel without iifkind: ports are matched by name", { timeout: 300_000, skip }, async (t) => {
  await using world = await World.make();
  const modern = world.hostRun((name) => name);
  const stderr = "Error: Could not process rule: Operation not supported";
  const run: Run = async (name, args, input = "") =>
    name === "nft" && input.includes("iifkind")
      ? { kind: "ran", exitCode: 1, stdout: "", stderr }
      : modern(name, args, input);
  const settings = t.testdir({});
  world.addBridge(docker);
  world.addContainer(docker, "attacker", 3);
  await world.tell("victim", { do: "listen", protocol: "tcp", address: "::", port: 7000, banner: "victim" });
  world.sysctl("victim", "net.ipv4.neigh.eth0.locktime=0");
  using forger = new Forger(world);
  // There is no other bridge here.
  const forgeries = forged(await bridgeLinkLocal(world)).filter(({ source }) => source !== hostOn(2).ipv4);
  const { text } = await command(run, "apply", settings);
  t.match(text, "layer 2: table bridge ec2metaproxy, BUT ports that are not called veth* pass");
  t.match(await command(run, "status", settings), { code: 0 });
  await accepts(t, world, forger, "by name", honest, forgeries);
});

t.test("ebtables filters what it can if nft has no bridge family", { timeout: 300_000, skip }, async (t) => {
  await using world = await World.make();
  const modern = world.hostRun((name) => name.replace(/^ebtables$/, "ebtables-nft"));
  const refusal = "Error: Could not process rule: Operation not supported";
  const run: Run = async (name, args, input = "") =>
    name === "nft" && `${args.join(" ")}${input}`.includes("bridge ")
      ? { kind: "ran", exitCode: 1, stdout: "", stderr: refusal }
      : modern(name, args, input);
  const settings = t.testdir({});
  world.addBridge(docker);
  world.addBridge({ name: "br-other", container: "other", net: 2 });
  world.addContainer(docker, "attacker", 3);
  await world.tell("victim", {
    do: "listen",
    protocol: "tcp",
    address: "::",
    port: 7000,
    banner: "victim",
  });
  world.sysctl("victim", "net.ipv4.neigh.eth0.locktime=0");
  using forger = new Forger(world);
  const forgeries = forged(await bridgeLinkLocal(world));
  const vlan0 = ({ more = [] }: Frame) =>
    more.some((word) => word.startsWith("tags=8100:0") || word.startsWith("tags=88a8"));
  const passes = (frame: Frame) => ["na", "ra", "redirect"].includes(frame.kind) && !vlan0(frame);
  const apply = () => command(run, "apply", settings);

  t.match(
    (await apply()).text,
    "layer 2: ebtables chain EC2METAPROXY, BUT forged neighbour advertisements, router advertisements and redirects pass",
  );
  t.match((await apply()).text, "already in place", "a second apply changes nothing");
  const open = [...forgeries.filter(passes), ...honest.filter((frame) => !vlan0(frame))];
  await accepts(
    t,
    world,
    forger,
    "ebtables",
    open,
    [...forgeries, ...honest].filter((frame) => !open.includes(frame)),
  );
  world.ip("host", "addr", "add", "10.99.0.1/24", "dev", "docker0");
  t.match(await command(run, "status", settings), { code: 1, text: "--arp-ip-src 10.99.0.1" });
  await apply();
  t.match(await command(run, "status", settings), { code: 0 });
  const saved = world.exec("host", "ebtables-nft-save");
  const failing: Run = async (name, args, input) =>
    name.startsWith("iptables") || (name === "nft" && (input ?? "").includes("inet"))
      ? { kind: "ran", exitCode: 1, stdout: "", stderr: "made to fail" }
      : run(name, args, input);
  writeFileSync(join(settings, "firewall.conf"), "METADATA_IPV4=169.254.169.253\n");
  await t.rejects(command(failing, "apply", settings));
  const rules = (text: string) =>
    text
      .replaceAll("EC2METAPROXY-2", "EC2METAPROXY")
      .split("\n")
      .filter((line) => /^-A/.test(line));
  t.strictSame(
    rules(world.exec("host", "ebtables-nft-save")),
    rules(saved),
    "a failed apply leaves the previous rules",
  );
  await command(run, "remove", settings);
  t.notMatch(world.exec("host", "ebtables-nft-save"), "EC2METAPROXY", "remove deletes the chain");
});

/**
 * Ordinary traffic: between containers and to a port published on the host, with and without bridge-nf-call.
 */
async function othersStillTalk(t: Tap, world: World): Promise<void> {
  // The cases before left false addresses in the neighbour table.
  for (const family of ["-4", "-6"]) world.ip("victim", family, "neigh", "flush", "all", "nud", "all");
  const publish = `ip daddr { ${hostOnLan.ipv4}, ${host.ipv4} } tcp dport 8080 dnat ip to ${victim.ipv4}:7000;`;
  const chain = `chain pre { type nat hook prerouting priority -100; ${publish} }`;
  const hairpin = `chain post { type nat hook postrouting priority 100; ip saddr ${victim.ipv4} ip daddr ${victim.ipv4} masquerade; }`;
  world.exec("host", "nft", `table ip published { ${chain}; ${hairpin}; }`);
  // Docker does the same for a container that connects to its own published port.
  world.exec("host", "ip", "link", "set", "veth-1-2", "type", "bridge_slave", "hairpin", "on");
  for (const bridged of ["0", "1"]) {
    for (const setting of ["iptables", "ip6tables"])
      world.sysctl("host", `net.bridge.bridge-nf-call-${setting}=${bridged}`);
    for (const [from, address, port] of [
      ["attacker", victim.ipv4, 7000],
      ["attacker", victim.ipv6, 7000],
      ["host", victim.ipv4, 7000],
      ["host", victim.ipv6, 7000],
      ["other", victim.ipv4, 7000],
      ["lan", hostOnLan.ipv4, 8080],
      ["other", host.ipv4, 8080],
      ["victim", hostOnLan.ipv4, 8080],
      // Without bridge-nf-call the answer comes from another address, with or without our rules.
      ...(bridged === "1" ? [["attacker", hostOnLan.ipv4, 8080] as const] : []),
    ] as const) {
      const answer = await world.tell(from, { do: "ask", protocol: "tcp", address, port });
      t.equal(
        answer,
        "victim",
        `${from} reaches ${address} port ${port}, bridge-nf-call-iptables=${bridged}`,
      );
    }
  }
  for (const setting of ["iptables", "ip6tables"])
    world.sysctl("host", `net.bridge.bridge-nf-call-${setting}=0`);
  world.exec("host", "nft", "delete", "table", "ip", "published");
}

/** Sends each frame from the attacker, and asserts which of them the victim accepts. */
async function accepts(
  t: Tap,
  world: World,
  forger: Forger,
  when: string,
  accepted: readonly Frame[],
  refused: readonly Frame[],
): Promise<void> {
  const wrong: string[] = [];
  for (const [frames, expected] of [
    [accepted, true],
    [refused, false],
  ] as const) {
    for (const frame of frames) {
      let seen = await victimAccepts(world, forger, frame);
      // The kernel ignores an ARP reply that comes too soon after another one (locktime), and a busy machine
      // may check late. So a frame that should be accepted is sent again; one that should be dropped is not.
      for (let again = 0; expected && !seen && again < 3; again++)
        seen = await victimAccepts(world, forger, frame);
      if (seen !== expected) wrong.push(`${frame.what}: ${seen ? "accepted" : "not accepted"}`);
    }
  }
  const count = accepted.length + refused.length;
  t.comment(
    `table: ${when}: ${accepted.length} frames accepted, ${refused.length} dropped, ${wrong.length} not as expected`,
  );
  t.strictSame(wrong, [], `${when}: all ${count} frames are as expected`);
}

async function victimAccepts(world: World, forger: Forger, frame: Frame): Promise<boolean> {
  const target = frame.source.includes(":") ? victim.ipv6 : victim.ipv4;
  const about = frame.about ?? target;
  const words = [`source=${frame.source}`, `target=${target}`, `about=${about}`, ...(frame.more ?? [])];
  const neighbour = (address: string, state: string) =>
    world.ip("victim", "neigh", "replace", address, "lladdr", unusedMac, "dev", "eth0", "nud", state);
  if (frame.kind === "syn") {
    // As after ARP poisoning: the victim's answers do not reach the owner of the source address, which would
    // reset.
    for (const address of new Set([host.ipv4, host.ipv6, ...(isOnLink(frame.source) ? [frame.source] : [])]))
      neighbour(address, "permanent");
    const port = forger.nextPort();
    forger.send(frame.kind, ...words, `port=${port}`);
    return soon(() => world.exec("victim", "ss", "-Hnt", "state", "syn-recv").includes(`:${port}`));
  }
  if (frame.kind === "ra") {
    world.ip("victim", "-6", "route", "flush", "proto", "ra");
    forger.send(frame.kind, ...words);
    const accepted = await soon(() =>
      world.ip("victim", "-6", "route", "show", "proto", "ra").includes(frame.source),
    );
    world.ip("victim", "-6", "route", "flush", "proto", "ra");
    return accepted;
  }
  if (frame.kind === "redirect") {
    world.ip("victim", "-6", "route", "replace", `${remote(0)}/64`, "via", router, "dev", "eth0");
    // A redirect is for one address, and the kernel remembers it.
    const far = remote(forger.nextPort());
    forger.send(frame.kind, ...words, `about=${far}`);
    return soon(() => world.ip("victim", "-6", "route", "get", far).includes(nextRouter));
  }
  const address = frame.kind === "na" ? about : frame.source;
  neighbour(address, "stale");
  // The kernel treats ARP replies within one tick of its clock as duplicates, whatever locktime is.
  await delay(12);
  forger.send(frame.kind, ...words);
  return soon(() => world.ip("victim", "neigh", "show", address, "dev", "eth0").includes(forger.mac));
}

/** An unused hardware address. */
const unusedMac = "02:00:00:00:00:99";

/** The attacker: a process in its namespace that sends frames on command. */
class Forger implements Disposable {
  readonly mac: string;
  readonly #child: ChildProcess;
  readonly #victim: string;
  #port = 20_000;

  constructor(world: World) {
    this.mac = world.mac("attacker", "eth0");
    this.#victim = world.mac("victim", "eth0");
    this.#child = world.spawn("attacker", "python3", new URL("forge.py", import.meta.url).pathname, "eth0");
  }

  /** Each SYN has its own source port, so that it can be told from earlier ones. */
  nextPort(): number {
    return ++this.#port;
  }

  send(...words: readonly string[]): void {
    this.#child.stdin?.write(`${words.join(" ")} to=${this.#victim}\n`);
  }

  [Symbol.dispose](): void {
    this.#child.stdin?.end();
  }
}

function isOnLink(address: string): boolean {
  return /^(172\.30\.1\.|fd30:1:|fe80:)/.test(address);
}

/** A frame takes microseconds, but the machine may be busy. */
async function soon(holds: () => boolean): Promise<boolean> {
  for (const waitMs of [2, 5, 20, 40]) {
    await delay(waitMs);
    if (holds()) return true;
  }
  return false;
}

async function bridgeLinkLocal(world: World): Promise<string> {
  for (;;) {
    const found = /inet6 (fe80\S+)\//.exec(world.ip("host", "-6", "addr", "show", "dev", "docker0"))?.[1];
    if (found !== undefined) return found;
    await delay(50);
  }
}
