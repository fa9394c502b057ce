import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import t, { type Test as Tap } from "tap";
import { probeBridges } from "../../src/commands/firewall-probe.ts";
import { parseSettings } from "../../src/firewall/parse-settings.ts";
import type { Probed, ProbeTools } from "../../src/firewall/probe.ts";
import { command, type Filter, filters } from "./backends.ts";
import { unable } from "./requirements.ts";
import { World } from "./world.ts";

/**
 * A request from a container's place is tried, and what kept it from the proxy is named with the line that
 * lets it pass. Each such line is then run, and the request tried again.
 */

const skip = unable(process.env, ["ss", "unshare", "nsenter"]) ?? false;
const proxyPort = 18_100;
const bridge = { name: "docker0", container: "docker", net: 1 } as const;
const main = new URL("../../src/main.ts", import.meta.url).pathname;

/** An unknown caller of the proxy waits, and gets 403. */
const proxySource = `require("node:http").createServer((request, response) =>
  setTimeout(() => response.writeHead(403, { Server: "EC2ws", "Content-Length": 0 }).end(), 300))
  .listen(${proxyPort}, "::", () => console.log("listening"))`;

async function startProxy(world: World): Promise<ChildProcess> {
  const child = world.start("host", {}, process.execPath, "-e", proxySource);
  await once(child.stdout, "data");
  return child;
}

async function stop(child: ChildProcess): Promise<void> {
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
}

const parsed = parseSettings(
  [{ path: "firewall.conf", text: `PROXY_PORT=${proxyPort}\n` }],
  { proxy: 1 },
  () => "",
);
if (!parsed.ok) throw new Error("the settings are wrong");
const { settings } = parsed;

type Scene = {
  readonly world: World;
  readonly tools: ProbeTools;
  readonly probe: () => Promise<readonly Probed[]>;
};

async function scene(t: Tap, filter: Filter, isProxy = true): Promise<Scene> {
  const world = await World.make();
  world.addBridge(bridge);
  const run = world.hostRun(filter.rename);
  let made = 0;
  const tools: ProbeTools = {
    run,
    hold: world.hostHold,
    follow: world.hostFollow,
    client: [process.execPath, main, "probe-request"],
    isProxy: async () => isProxy,
    suffix: () => `t${++made}`,
  };
  const directory = t.testdir({ "firewall.conf": `PROXY_PORT=${proxyPort}\n` });
  await command(run, "apply", directory, filter.backend);
  return { world, tools, probe: () => probeBridges(tools, settings) };
}

function leftovers(world: World): string {
  const links = world.ip("host", "-o", "link").match(/vethprobe\w+/g) ?? [];
  const tables = world.exec("host", "nft", "list", "tables").match(/.*_probe_.*/g) ?? [];
  return [...links, ...tables].join(" ");
}

type Case = {
  readonly what: string;
  readonly break: readonly (readonly string[])[];
  /** What the words about IPv4 must contain. */
  readonly says: RegExp;
  /** Whether the line in the hint mends it. Otherwise the rules are missing, or IPv6 has no such rule. */
  readonly hint: RegExp;
};

const iptablesCases: readonly Case[] = [
  {
    what: "INPUT accepts by policy and ends in REJECT",
    break: [
      ["iptables", "-A", "INPUT", "-i", "lo", "-j", "ACCEPT"],
      ["iptables", "-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT"],
      ["iptables", "-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "ACCEPT"],
      ["iptables", "-A", "INPUT", "-j", "REJECT", "--reject-with", "icmp-host-prohibited"],
    ],
    says: /got no answer \(EHOSTUNREACH\): .*chain INPUT.*(reject|REJECT)/,
    hint: /iptables\S* -I INPUT -i docker0 -p tcp --dport 18100 -j ACCEPT/,
  },
  {
    what: "INPUT jumps into a chain that drops",
    break: [
      ["iptables", "-N", "LOCALINPUT"],
      ["iptables", "-A", "LOCALINPUT", "-p", "tcp", "-j", "DROP"],
      ["iptables", "-A", "INPUT", "-j", "LOCALINPUT"],
    ],
    says: /chain LOCALINPUT/,
    hint: /iptables\S* -I INPUT -i docker0 -p tcp --dport 18100 -j ACCEPT/,
  },
  {
    what: "the rule of another program for another bridge is left over",
    break: [["iptables", "-I", "INPUT", "-p", "tcp", "--dport", "18100", "!", "-i", "br-old", "-j", "DROP"]],
    says: /chain INPUT.*18100/,
    hint: /iptables\S* -I INPUT -i docker0 -p tcp --dport 18100 -j ACCEPT/,
  },
  {
    what: "INPUT drops by policy",
    break: [["iptables", "-P", "INPUT", "DROP"]],
    says: /chain INPUT.*policy/,
    hint: /iptables\S* -I INPUT -i docker0 -p tcp --dport 18100 -j ACCEPT/,
  },
];

const nftCases: readonly Case[] = [
  {
    what: "an nft chain accepts by policy and drops by rule",
    break: [
      ["nft", "add table inet site"],
      ["nft", "add chain inet site in { type filter hook input priority 10 ; policy accept ; }"],
      ["nft", "add rule inet site in tcp dport != 22 counter drop"],
    ],
    says: /chain in of table inet site dropped the packet, by its rule tcp dport != 22 counter drop/,
    hint: /nft 'insert rule inet site in iifname "docker0" tcp dport 18100 accept'/,
  },
  {
    what: "a chain before the redirect drops",
    break: [
      ["nft", "add table ip early"],
      ["nft", "add chain ip early pre { type filter hook prerouting priority -300 ; }"],
      ["nft", "add rule ip early pre ip daddr 169.254.0.0/16 drop"],
    ],
    says: /chain pre of table ip early dropped the packet/,
    hint: /nft 'insert rule ip early pre iifname "docker0" tcp dport 80 accept'/,
  },
  {
    what: "the answer is dropped on its way out",
    break: [
      ["nft", "add table ip out"],
      ["nft", "add chain ip out o { type filter hook output priority 0 ; policy drop ; }"],
    ],
    says: /chain o of table ip out dropped the answer, by its policy, drop/,
    hint: /nft 'insert rule ip out o oifname "docker0" tcp sport 18100 accept'/,
  },
];

const ipv4Of = (results: readonly Probed[]) => results.find(({ family }) => family === "ipv4");

for (const filter of filters) {
  const cases =
    filter.name === "nftables"
      ? [...iptablesCases, ...nftCases]
      : // Our own rules come first and accept, so only what is before them matters.
        iptablesCases.filter(({ what }) => what.startsWith("the rule of"));
  for (const one of cases)
    t.test(`${filter.name}: ${one.what}`, { timeout: 120_000, skip }, async (t) => {
      const { world, probe } = await scene(t, filter);
      await using _world = world;
      const proxy = await startProxy(world);
      t.teardown(() => stop(proxy));
      t.match(ipv4Of(await probe()), { ok: true, result: "proxy" }, "before, the proxy is reached");
      for (const [name = "", ...args] of one.break) world.exec("host", filter.rename(name), ...args);
      const broken = ipv4Of(await probe());
      t.match(broken, { ok: false, result: "no answer", text: one.says, hint: one.hint });
      const line = /Run: (.*?) {2}\(/.exec(broken?.hint ?? "")?.[1] ?? "false";
      const [program = "", ...rest] = line.split(" ");
      world.exec("host", "sh", "-c", [filter.rename(program), ...rest].join(" "));
      t.match(ipv4Of(await probe()), { ok: true, result: "proxy" }, "the line of the hint mends it");
      t.equal(leftovers(world), "", "nothing is left");
    });
}

const [nft] = filters;
if (nft !== undefined) {
  t.test(
    "both families of a healthy host reach the proxy, and the container keeps its address",
    { skip },
    async (t) => {
      const { world, probe } = await scene(t, nft);
      await using _world = world;
      const proxy = await startProxy(world);
      t.teardown(() => stop(proxy));
      const neighbours = () => world.ip("docker", "-o", "link") + world.mac("host", "docker0");
      const before = neighbours();
      t.match(await probe(), [
        {
          bridge: "docker0",
          family: "ipv4",
          ok: true,
          text: /172\.30\.1\.254 to 169\.254\.169\.254:80 reached the proxy \(HTTP 403/,
        },
        { bridge: "docker0", family: "ipv6", ok: true, text: /reached the proxy \(HTTP 403/ },
      ]);
      t.equal(neighbours(), before, "the bridge keeps its hardware address");
      t.equal(leftovers(world), "", "nothing is left");
    },
  );

  t.test("an address that a container has is not taken", { skip }, async (t) => {
    const { world, probe } = await scene(t, nft);
    await using _world = world;
    world.addContainer(bridge, "last", 254);
    const proxy = await startProxy(world);
    t.teardown(() => stop(proxy));
    t.match(ipv4Of(await probe()), { ok: true, text: /from 172\.30\.1\.253 / });
  });

  t.test("without the rules, the probe says that the real service answers", { skip }, async (t) => {
    const { world, probe } = await scene(t, nft);
    await using _world = world;
    await command(world.hostRun(nft.rename), "remove", t.testdir({}), nft.backend);
    t.match(ipv4Of(await probe()), { ok: false, result: "real service", hint: /firewall apply/ });
  });

  t.test("where only the redirect is missing, it says so", { skip }, async (t) => {
    const { world, probe } = await scene(t, nft);
    await using _world = world;
    const proxy = await startProxy(world);
    t.teardown(() => stop(proxy));
    world.exec("host", "nft", "flush", "chain", "inet", "ec2metaproxy", "redirect_metadata");
    t.match(ipv4Of(await probe()), { ok: false, result: "no answer", hint: /ec2metaproxy firewall apply/ });
  });

  t.test("a port on which nobody listens is named", { skip }, async (t) => {
    const { world, probe } = await scene(t, nft);
    await using _world = world;
    t.match(ipv4Of(await probe()), {
      ok: false,
      result: "nobody listens",
      text: /nobody listens on port 18100/,
    });
  });

  t.test("another program on the port is named", { skip }, async (t) => {
    const { world, probe } = await scene(t, nft, false);
    await using _world = world;
    const proxy = await startProxy(world);
    t.teardown(() => stop(proxy));
    t.match(ipv4Of(await probe()), {
      ok: false,
      result: "other program",
      text: /another program on port 18100: \S+ \(pid \d+\)/,
    });
  });

  t.test("a probe that is killed leaves nothing", { skip }, async (t) => {
    const { world } = await scene(t, nft);
    await using _world = world;
    world.exec(
      "host",
      "nft",
      "insert",
      "rule",
      "inet",
      "ec2metaproxy",
      "guard_input",
      "tcp",
      "dport",
      "18100",
      "drop",
    );
    const settingsDirectory = t.testdir({ "firewall.conf": `PROXY_PORT=${proxyPort}\n` });
    const child = world.start(
      "host",
      {},
      process.execPath,
      main,
      "firewall",
      "status",
      "--probe",
      "--settings",
      settingsDirectory,
      "-c",
      "/dev/null",
    );
    const seen = new Set<string>();
    for (let at = 0; at < 100 && !/_probe_/.test([...seen].join()); at += 1) {
      for (const one of leftovers(world).split(" ")) seen.add(one);
      await delay(100);
    }
    t.match([...seen].join(" "), /vethprobe.*_probe_/, "it was in the middle of its work");
    await stop(child);
    for (let at = 0; at < 50 && leftovers(world) !== ""; at += 1) await delay(100);
    t.equal(leftovers(world), "");
  });
}
