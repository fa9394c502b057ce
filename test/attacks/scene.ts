import { setTimeout as delay } from "node:timers/promises";
import { type AwsSide, startAws } from "../support/host/aws.ts";
import { containerEngine, type Engine } from "../support/host/engine.ts";
import { node, repository, type TestHost } from "../support/host/host.ts";
import { type HostProxy, hostProxy } from "../support/host/proxy.ts";
import { startProxy } from "../support/proxy.ts";
import { readFindings } from "./findings.ts";
import type { Findings, Order } from "./order.ts";

/** The victim listens on two ports and keeps a connection to the metadata service, from local port `kept`. */
export const victim = { ipv4: "172.31.0.10", ipv6: "fd00:77::10", port: 8080, once: 8090, kept: 45_678 };
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

export type Proof = "socket" | "off";

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

export type Scene = {
  readonly host: TestHost;
  readonly aws: AwsSide;
  readonly docker: Engine;
  readonly proxy: HostProxy;
  /** Runs an attack to its end, after removing what earlier attacks left behind. */
  attack(attacker: Attacker, order: Order): Promise<Findings>;
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
  const proxy = await startProxy(hostProxy(host), config("socket"));
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
    victimSecrets: async () => {
      const all = (await aws.secrets()).filter(({ arn }) => arn.includes("assumed-role/Victim/"));
      return all.flatMap((one) => [one.accessKeyId, one.secretAccessKey, one.sessionToken]);
    },
  };
  await renewKept(host, docker);
  return scene;
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
