import { setTimeout as delay } from "node:timers/promises";
import { type AwsSide, startAws } from "../support/host/aws.ts";
import { containerEngine, type Engine } from "../support/host/engine.ts";
import { guardGroup, guardSocket } from "../support/host/guard.ts";
import { node, repository, type TestHost } from "../support/host/host.ts";
import { type HostProxy, hostProxy } from "../support/host/proxy.ts";
import { startProxy } from "../support/proxy.ts";
import { parseReading, readFindings } from "./findings.ts";
import type { Findings, Order, Reading } from "./order.ts";

/** The victim listens on two ports and keeps a connection to the metadata service, from local port `kept`. */
export const victim = { ipv4: "172.31.0.10", ipv6: "fd00:77::10", port: 8080, once: 8090, kept: 45_678 };
/** Another container of the victim's role. It reads whenever it starts. */
export const restarted = { name: "restarted", ipv4: "172.31.0.11", mac: "02:42:ac:1f:00:0b" };
/** The host's addresses on the victim's bridge, on another bridge, and on the link to AWS. */
export const hostAddress = {
  ipv4: "172.31.0.1",
  ipv6: "fd00:77::1",
  other: "172.29.0.1",
  elsewhere: "10.200.0.1",
};
export const proxyPort = 18_000;
export const credentialsPort = 18_010;

const account = "123456789012";
const roleArn = (name: string) => `arn:aws:iam::${account}:role/containers/${name}`;

export type Proof = "socket" | "address" | "off";

export const config = (identityProof: Proof) => ({
  aliasToARN: { victim: roleArn("Victim"), attacker: roleArn("Attacker") },
  containerCredentials: { listen: `:${credentialsPort}` },
  identityProof,
});

/** The host's Python, mounted read-only: the image has none. */
const python = ["--volume=/usr:/usr:ro", "--volume=/usr/lib:/lib:ro", "--volume=/usr/lib64:/lib64:ro"];
const programs = `--volume=${repository}/test/attacks:/attacks:ro`;
const run = (program: string, argument: unknown) => [
  "/usr/bin/python3",
  "-B",
  `/attacks/${program}`,
  JSON.stringify(argument),
];

/** The attackers, by network and capabilities. */
export type Attacker = "neighbour" | "admin" | "straddler" | "stranger";

/** What can happen while an attacker overhears the victim. */
export type Event = "victim restarts" | "attacker connects";

export type Overheard = { readonly findings: Findings; readonly reading: Reading };

export type Scene = {
  readonly host: TestHost;
  readonly aws: AwsSide;
  readonly docker: Engine;
  readonly proxy: HostProxy & {
    /** From its next start on. */
    follow(whom: "guard" | "engines"): Promise<void>;
  };
  /** Runs an attack to its end, after removing what earlier attacks left behind. */
  attack(attacker: Attacker, order: Order): Promise<Findings>;
  /**
   * Lets the victim read `answers` answers, for at most `seconds`, while the attacker tries to overhear them.
   */
  overhear(
    attacker: Attacker,
    order: Order,
    limits: { readonly answers: number; readonly seconds: number },
    event: Event | undefined,
  ): Promise<Overheard>;
  /** Whether the proxy has the victim's kept connection. The victim would not notice its end. */
  keptIsOpen(): Promise<boolean>;
  /** How many containers run. */
  readonly containers: number;
  /** The secrets of the victim's role that were issued. */
  victimSecrets(): Promise<readonly string[]>;
};

/** Sets up the proxy and its rules, the victim and the attackers. */
export async function setScene(host: TestHost): Promise<Scene> {
  const aws = await startAws(host);
  const docker = await containerEngine(host, "docker");
  await host.exec([node, `${repository}/src/main.ts`, "firewall", "apply"]);
  // How long conntrack remembers a reset connection. The kernel's default is ten seconds.
  await host.exec("sysctl -q -w net.netfilter.nf_conntrack_tcp_timeout_close=2");
  const subnets = ["--subnet=172.31.0.0/16", "--ipv6", "--subnet=fd00:77::/64"];
  await docker.call("network", "create", ...subnets, "shared");
  await docker.call("network", "create", "--subnet=172.29.0.0/16", "other");
  const started = await startProxy(hostProxy(host), config("socket"));
  const proxy = { ...started, follow: (whom: "guard" | "engines") => followFrom(host, started, whom) };
  await docker.run({
    name: "victim",
    network: "shared",
    labels: { "ec2metaproxy.RoleAlias": "victim" },
    args: ["--ip", victim.ipv4, "--ip6", victim.ipv6, ...python, programs],
    command: run("victim.py", { port: victim.port, once: victim.once, kept: victim.kept }),
  });
  const addAttacker = (name: Attacker, network: string, ...args: readonly string[]) =>
    docker.run({
      name,
      network,
      labels: { "ec2metaproxy.RoleAlias": "attacker" },
      args: [...args, ...python, programs],
    });
  await addAttacker("neighbour", "shared", "--ip", "172.31.0.20", "--ip6", "fd00:77::20");
  await addAttacker("admin", "shared", "--ip", "172.31.0.21", "--ip6", "fd00:77::21", "--cap-add=NET_ADMIN");
  await addAttacker("stranger", "other", "--ip", "172.29.0.20");
  await addAttacker("straddler", "shared", "--ip", "172.31.0.22", "--ip6", "fd00:77::22");
  await docker.call("network", "connect", "other", "straddler");

  const victimPid = await docker.pid("victim");
  const scene: Scene = {
    host,
    aws,
    docker,
    proxy,
    attack: async (attacker, order) => {
      await forget(host, victimPid);
      if (order.attack === "port_reuse" || order.attack === "kept_injected") await renewKept(host, docker);
      const attacking = docker.inside(attacker, run("attacker.py", order), {
        timeoutMs: (order.seconds + 30) * 1000,
      });
      if (order.attack === "impersonation")
        await reconnectUntilEnd(docker, order.victim === victim.ipv6 ? "USR1" : "HUP", attacking);
      const { stdout } = await attacking;
      return readFindings(stdout);
    },
    overhear: async (attacker, order, limits, event) => {
      await forget(host, victimPid);
      const attacking = docker.inside(attacker, run("attacker.py", order), {
        timeoutMs: (order.seconds + 30) * 1000,
      });
      const stop = (container: string) =>
        docker.inside(container, ["touch", "/dev/shm/stop"]).catch(() => {
          // It does not run any more.
        });
      const reader = event === "victim restarts" ? restarted.name : "victim";
      let isOver = false;
      const end = () => {
        isOver = true;
        return stop(reader);
      };
      const ending = attacking.then(end, end);
      try {
        if (event === "attacker connects") await docker.call("network", "connect", "shared", attacker);
        await attackIsUnderWay(host, docker, attacker, () => isOver);
        const reading =
          event === "victim restarts"
            ? await readWhileRestarting(host, docker, limits, () => isOver)
            : await read(docker, order.victim, limits);
        await stop(attacker);
        const { stdout } = await attacking;
        return { findings: readFindings(stdout), reading };
      } finally {
        await stop(attacker);
        await ending;
        if (event === "attacker connects") await docker.call("network", "disconnect", "shared", attacker);
        if (event === "victim restarts") await docker.remove(restarted.name).catch(() => {});
      }
    },
    keptIsOpen: async () => {
      const filter = `sport = :${proxyPort} and dport = :${victim.kept}`;
      return (await host.exec(["ss", "-Htn", "state", "established", filter])).stdout.trim() !== "";
    },
    containers: 5,
    victimSecrets: async () => {
      const all = (await aws.secrets()).filter(({ arn }) => arn.includes("assumed-role/Victim/"));
      return all.flatMap((one) => [one.accessKeyId, one.secretAccessKey, one.sessionToken]);
    },
  };
  await renewKept(host, docker);
  return scene;
}

/** Where the proxy learns of the containers. With the guard it has no way to the engine, as installed. */
async function followFrom(host: TestHost, proxy: HostProxy, whom: "guard" | "engines"): Promise<void> {
  const path = `/etc/systemd/system/${proxy.unit}.d/guard.conf`;
  if (whom === "engines") {
    await host.exec(["rm", "-f", path]);
    return;
  }
  const command = `${node} ${repository}/src/main.ts serve -c ${proxy.configPath} --guard ${guardSocket}`;
  await host.write(
    path,
    `[Service]\nExecStart=\nExecStart=${command}\nUser=${guardGroup}\nSupplementaryGroups=\n`,
  );
}

async function attackIsUnderWay(
  host: TestHost,
  docker: Engine,
  attacker: Attacker,
  isOver: () => boolean,
): Promise<void> {
  const isActive = async () =>
    (await docker.inside(attacker, ["test", "-e", "/dev/shm/active"], { check: false })).code === 0;
  await host.waitFor(async () => isOver() || (await isActive()), {
    timeoutMs: 20_000,
    what: "the attack to be under way",
  });
}

type Limits = Parameters<Scene["overhear"]>[2];
const readerOrder = ({ answers, seconds }: Limits, service: string, waits: boolean) =>
  run("reader.py", { count: answers, seconds, service, waits });

async function read(docker: Engine, address: string, limits: Limits): Promise<Reading> {
  const service = address === victim.ipv6 ? "fd00:ec2::254" : "169.254.169.254";
  const { stdout } = await docker.inside("victim", readerOrder(limits, service, false), {
    timeoutMs: (limits.seconds + 30) * 1000,
  });
  return parseReading(stdout);
}

/** A container reads from its first instruction on, and is restarted when it has what it wanted. */
async function readWhileRestarting(
  host: TestHost,
  docker: Engine,
  { answers, seconds }: Limits,
  isOver: () => boolean,
): Promise<Reading> {
  const starts = 4;
  const limits = { answers: Math.ceil(answers / starts), seconds: seconds / starts };
  await docker.run({
    name: restarted.name,
    network: "shared",
    labels: { "ec2metaproxy.RoleAlias": "victim" },
    args: ["--ip", restarted.ipv4, "--mac-address", restarted.mac, ...python, programs],
    command: readerOrder(limits, "169.254.169.254", true),
  });
  const readings: Reading[] = [];
  for (let start = 1; start <= starts; start += 1) {
    const lines = await host.waitFor(
      async () => {
        const all = (await docker.call("logs", restarted.name)).split("\n").filter((line) => line !== "");
        return all.length >= start ? all : undefined;
      },
      { timeoutMs: 30_000, what: `the container to have read after start ${start}` },
    );
    readings.push(parseReading(lines[start - 1] ?? ""));
    if (isOver()) break;
    if (start < starts) await docker.call("restart", "--time=0", restarted.name);
  }
  return together(readings);
}

function together(readings: readonly Reading[]): Reading {
  return {
    tokens: readings.flatMap(({ tokens }) => tokens),
    credentials: readings.reduce((sum, { credentials }) => sum + credentials, 0),
    errors: readings.flatMap(({ errors }) => errors),
    began: Math.min(...readings.map(({ began }) => began)),
    ended: Math.max(...readings.map(({ ended }) => ended)),
  };
}

/** Removes what earlier attacks left behind: false neighbour entries, and tracked connections. */
async function forget(host: TestHost, victimPid: number): Promise<void> {
  await host.exec(
    `ip neigh flush all; ip -6 neigh flush all; conntrack -F
     nsenter --target ${victimPid} --net sh -c "ip neigh flush all; ip -6 neigh flush all"`,
    { check: false },
  );
}

/**
 * Lets the victim open a new kept connection. Resolves when it has one, and so an address, a role and a
 * token.
 */
export async function renewKept(host: TestHost, docker: Engine): Promise<void> {
  const served = async () => (await docker.call("logs", "victim")).split('"kept": true, "port"').length - 1;
  const before = await served();
  await docker.call("kill", "--signal=HUP", "victim");
  await host.waitFor(async () => (await served()) > before, {
    timeoutMs: 30_000,
    what: "the victim to keep a connection to the metadata service",
  });
}

/** Lets the victim reconnect now and then, as clients do. */
async function reconnectUntilEnd(
  docker: Engine,
  signal: "HUP" | "USR1",
  attacking: Promise<unknown>,
): Promise<void> {
  let isOver = false;
  const end = () => {
    isOver = true;
  };
  attacking.then(end, end);
  while (!isOver) {
    await delay(500);
    await docker.call("kill", `--signal=${signal}`, "victim");
  }
}
