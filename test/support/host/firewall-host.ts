import { setTimeout as delay } from "node:timers/promises";
import { startProxy } from "../proxy.ts";
import { startAws } from "./aws.ts";
import { containerEngine, type Engine } from "./engine.ts";
import { node, repository, type TestHost } from "./host.ts";
import { hostProxy } from "./proxy.ts";

/** Units and scripts as the packages install them; the program itself runs from this repository's source. */
export async function installFirewall(host: TestHost): Promise<void> {
  await host.write(
    "/usr/bin/ec2metaproxy",
    `#!/bin/sh\nexec ${node} ${repository}/src/main.ts "$@"\n`,
    "0755",
  );
  await host.exec(`set -e
cp ${repository}/systemd/ec2metaproxy-firewall*.service ${repository}/systemd/ec2metaproxy-firewall.timer /usr/lib/systemd/system/
install -D ${repository}/firewall/firewall-repair /usr/lib/ec2metaproxy/firewall-repair
install -D ${repository}/firewall/firewall-close /usr/lib/ec2metaproxy/firewall-close
mkdir -p /etc/ec2metaproxy/firewall.d /var/asker
echo '{}' > /etc/ec2metaproxy/config.json
systemctl daemon-reload`);
}

export const startFirewall = (host: TestHost) =>
  host.exec("systemctl enable --now ec2metaproxy-firewall.service ec2metaproxy-firewall.timer");

export const firewall = (host: TestHost, ...args: readonly string[]) =>
  host.exec(["ec2metaproxy", "firewall", ...args], { check: false });

/** One settings file, replaced. */
export async function configure(host: TestHost, text: string): Promise<void> {
  await host.write("/etc/ec2metaproxy/firewall.d/50-test.conf", text);
}

/** A container that asks from its first instruction on, whoever restarts it, and where it notes what it got. */
export type Asker = { readonly name: string; readonly engine: Engine };

const addresses = ["169.254.169.254", "fd00:ec2::254"] as const;

/** AWS, the proxy, and an asker on Docker's bridge, on a user-defined network with IPv6, and on podman's bridge. */
export async function startAskers(host: TestHost): Promise<readonly Asker[]> {
  await startAws(host, { args: ["--http-tokens", "optional"] });
  const docker = await containerEngine(host, "docker");
  const podman = await containerEngine(host, "podman");
  const roleArn = "arn:aws:iam::123456789012:role/containers/Default";
  const config = { httpTokens: "optional", defaultAlias: "default", aliasToARN: { default: roleArn } };
  const proxy = await startProxy(hostProxy(host), config);
  await host.exec(["systemctl", "enable", proxy.unit]);
  await docker.call("network", "create", "--ipv6", "--subnet", "fd00:77::/64", "six");
  const askers = [
    { name: "docker", engine: docker, args: ["--restart=always"], patience: "0.5" },
    { name: "network", engine: docker, network: "six", args: ["--restart=always"], patience: "0.5" },
    // The proxy of this test does not know podman's containers, and answers 403 when it has waited two seconds for word of one.
    { name: "podman", engine: podman, args: [], patience: "3" },
  ];
  for (const { name, engine, network, args, patience } of askers) {
    await engine.run({
      name,
      ...(network !== undefined && { network }),
      // The host's own Python, in the container's network: the whole host is there for reading.
      args: [...args, "--volume=/:/host:ro", "--volume=/var/asker:/host/var/asker"],
      command: [
        "chroot",
        "/host",
        "python3",
        `${repository}/test/support/host/firewall-probe.py`,
        `/var/asker/${name}`,
        patience,
        ...addresses,
      ],
    });
  }
  return askers;
}

export type Answer = { readonly at: number; readonly address: string; readonly outcome: string };

/** What an asker got since a time, in seconds since the epoch. */
export async function answersSince(host: TestHost, asker: Asker, since: number): Promise<readonly Answer[]> {
  const lines = (await host.read(`/var/asker/${asker.name}`)).trim().split("\n");
  return lines
    .map((line): Answer => {
      const [at = "", address = "", ...outcome] = line.split(" ");
      return { at: Number(at), address, outcome: outcome.join(" ") };
    })
    .filter(({ at }) => at >= since);
}

/** Seconds since the epoch, on the clock that the host has too. */
export const now = () => Date.now() / 1000;

export type Observation = {
  readonly rulesBackAfter: number;
  /** The longest time without an answer over IPv4, of the asker for which it was longest. */
  readonly unserved: number;
  readonly answers: number;
  readonly leaks: readonly string[];
};

/**
 * Does something to the host and watches until the rules are whole again and every asker has been served after that.
 * @param rulesWhole a command of the host that succeeds when they are
 */
export async function observe(
  host: TestHost,
  askers: readonly Asker[],
  rulesWhole: string,
  disturb: () => Promise<unknown>,
): Promise<Observation> {
  const began = now();
  await disturb();
  const disturbed = now();
  await host.waitFor(async () => (await host.exec(rulesWhole, { check: false })).code === 0, {
    timeoutMs: 30_000,
    what: "the rules to be back",
  });
  const rulesBackAfter = now() - disturbed;
  const back = now();
  let unserved = 0;
  const leaks: string[] = [];
  let answers = 0;
  for (const asker of askers) {
    await host.waitFor(
      async () => (await answersSince(host, asker, back)).some(({ outcome }) => outcome.startsWith("served")),
      { timeoutMs: 30_000, what: `${asker.name} to be served` },
    );
    const seen = await answersSince(host, asker, began);
    answers += seen.length;
    leaks.push(
      ...seen
        .filter(({ outcome }) => outcome === "LEAK")
        .map(({ at, address }) => `${asker.name} ${address} ${at - began}`),
    );
    const served = seen.filter(
      ({ outcome, address }) => outcome.startsWith("served") && address === addresses[0],
    );
    const times = [began, ...served.map(({ at }) => at)];
    unserved = Math.max(unserved, ...times.slice(1).map((at, index) => at - (times[index] ?? at)));
  }
  return { rulesBackAfter, unserved, answers, leaks };
}

export const settle = () => delay(1_000);
