import { setTimeout as delay } from "node:timers/promises";
import { startProxy } from "../proxy.ts";
import { startAws } from "./aws.ts";
import { containerEngine, type Engine } from "./engine.ts";
import { node, repository, type TestHost } from "./host.ts";
import { hostProxy } from "./proxy.ts";

/** Installs units and scripts as the packages do. The program itself runs from this repository's source. */
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
mkdir -p /etc/ec2metaproxy/firewall.d /var/probe
echo '{}' > /etc/ec2metaproxy/config.json
systemctl daemon-reload`);
  // The guard is not installed here. These tests are about the repair, not about the minute between two.
  const often =
    "[Timer]\nOnActiveSec=\nOnUnitInactiveSec=\nOnActiveSec=4\nOnUnitInactiveSec=4\nAccuracySec=500ms\n";
  await host.write("/etc/systemd/system/ec2metaproxy-firewall.timer.d/often.conf", often);
  await host.exec("systemctl daemon-reload");
}

export const startFirewall = (host: TestHost) =>
  host.exec("systemctl enable --now ec2metaproxy-firewall.service ec2metaproxy-firewall.timer");

export const firewall = (host: TestHost, ...args: readonly string[]) =>
  host.exec(["ec2metaproxy", "firewall", ...args], { check: false });

/** Replaces the test's settings file. */
export async function configure(host: TestHost, text: string): Promise<void> {
  await host.write("/etc/ec2metaproxy/firewall.d/50-test.conf", text);
}

/**
 * A container that requests credentials from its first instruction on, and logs what it gets in /var/probe.
 */
export type Probe = { readonly name: string; readonly engine: Engine };

const addresses = ["169.254.169.254", "fd00:ec2::254"] as const;

/**
 * Starts AWS, the proxy, and probes on Docker's bridge, on a user-defined network with IPv6, and on Podman's
 * bridge.
 */
export async function startProbes(host: TestHost): Promise<readonly Probe[]> {
  await startAws(host, { args: ["--http-tokens", "optional"] });
  const docker = await containerEngine(host, "docker");
  const podman = await containerEngine(host, "podman");
  const roleArn = "arn:aws:iam::123456789012:role/containers/Default";
  const config = { httpTokens: "optional", defaultAlias: "default", aliasToARN: { default: roleArn } };
  const proxy = await startProxy(hostProxy(host), config);
  await host.exec(["systemctl", "enable", proxy.unit]);
  await docker.call("network", "create", "--ipv6", "--subnet", "fd00:77::/64", "six");
  const probes = [
    { name: "docker", engine: docker, args: ["--restart=always"], timeout: "0.5" },
    { name: "network", engine: docker, network: "six", args: ["--restart=always"], timeout: "0.5" },
    // The proxy of this test follows only Docker. It answers 403 after waiting two seconds for the container
    // to appear.
    { name: "podman", engine: podman, args: [], timeout: "3" },
  ];
  for (const { name, engine, network, args, timeout } of probes) {
    await engine.run({
      name,
      ...(network !== undefined && { network }),
      // The host's Python: the image has none. The host's root is mounted read-only.
      args: [...args, "--volume=/:/host:ro", "--volume=/var/probe:/host/var/probe"],
      command: [
        "chroot",
        "/host",
        "python3",
        `${repository}/test/support/host/firewall-probe.py`,
        `/var/probe/${name}`,
        timeout,
        ...addresses,
      ],
    });
  }
  return probes;
}

export type Answer = { readonly at: number; readonly address: string; readonly outcome: string };

/** What a probe got since a time, in seconds since the epoch. */
export async function answersSince(host: TestHost, probe: Probe, since: number): Promise<readonly Answer[]> {
  const lines = (await host.read(`/var/probe/${probe.name}`)).trim().split("\n");
  return lines
    .map((line): Answer => {
      const [at = "", address = "", ...outcome] = line.split(" ");
      return { at: Number(at), address, outcome: outcome.join(" ") };
    })
    .filter(({ at }) => at >= since);
}

/** Seconds since the epoch. The host has the same clock. */
export const now = () => Date.now() / 1000;

export type Observation = {
  readonly rulesBackAfter: number;
  /** The longest time in seconds that any probe was without an answer over IPv4. */
  readonly unserved: number;
  readonly answers: number;
  readonly leaks: readonly string[];
};

/**
 * Disturbs the host and waits until the rules are intact again and every probe has been served after that.
 * @param rulesIntact a command on the host that succeeds if they are
 */
export async function observe(
  host: TestHost,
  probes: readonly Probe[],
  rulesIntact: string,
  disturb: () => Promise<unknown>,
): Promise<Observation> {
  const began = now();
  await disturb();
  const disturbed = now();
  await host.waitFor(async () => (await host.exec(rulesIntact, { check: false })).code === 0, {
    timeoutMs: 30_000,
    what: "the rules to be back",
  });
  const rulesBackAfter = now() - disturbed;
  const back = now();
  let unserved = 0;
  const leaks: string[] = [];
  let answers = 0;
  for (const probe of probes) {
    await host.waitFor(
      async () => (await answersSince(host, probe, back)).some(({ outcome }) => outcome.startsWith("served")),
      { timeoutMs: 30_000, what: `${probe.name} to be served` },
    );
    const seen = await answersSince(host, probe, began);
    answers += seen.length;
    leaks.push(
      ...seen
        .filter(({ outcome }) => outcome === "LEAK")
        .map(({ at, address }) => `${probe.name} ${address} ${at - began}`),
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
