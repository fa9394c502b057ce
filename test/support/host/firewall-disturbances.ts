import type { Test as Tap } from "tap";
import { bootFor } from "./boot.ts";
import {
  answersSince,
  configure,
  firewall,
  installFirewall,
  now,
  observe,
  type Probe,
  settle,
  startFirewall,
  startProbes,
} from "./firewall-host.ts";
import type { TestHost } from "./host.ts";

const nftIntact =
  "nft list chain inet ec2metaproxy redirect_metadata && ip rule | grep -q '^170:' && ip -6 rule | grep -q '^170:'";
const iptablesIntact = `for i in iptables ip6tables; do
  $i -w -t nat -C PREROUTING -j EC2METAPROXY-REDIRECT && $i -w -t mangle -C FORWARD -j EC2METAPROXY-FORWARD || exit 1
done; ip rule | grep -q '^170:' && ip -6 rule | grep -q '^170:'`;

export type Disturbance = { readonly name: string; readonly disturb: (host: TestHost) => Promise<unknown> };

const sh = (name: string, command = name): Disturbance => ({ name, disturb: (host) => host.exec(command) });

/** The order matters: each disturbance leaves the host in the state that the next one needs. */
const disturbances = {
  flushRuleset: sh("nft flush ruleset"),
  flushTables: sh(
    "iptables -F and -X in every table",
    "for i in iptables ip6tables; do for t in nat mangle filter; do $i -w -t $t -F; $i -w -t $t -X; done; done; systemctl reset-failed docker; systemctl restart docker",
  ),
  flushRoutingRules: sh(
    "ip rule flush",
    "for f in -4 -6; do for p in 170 169 171; do ip $f rule del pref $p; done; done",
  ),
  restartNftables: sh("systemctl restart nftables"),
  reloadNftables: sh("systemctl reload nftables"),
  stopNftables: sh("systemctl stop nftables"),
  restartNetworkd: sh("systemctl restart systemd-networkd"),
  restartDocker: sh("systemctl restart docker", "systemctl reset-failed docker; systemctl restart docker"),
  startFirewalld: sh(
    "firewalld starts",
    "systemctl start firewalld && firewall-cmd --permanent --add-port=18000/tcp && firewall-cmd --reload && systemctl reset-failed docker && systemctl restart docker",
  ),
  reloadFirewalld: sh("firewall-cmd --reload"),
  completelyReloadFirewalld: sh(
    "firewall-cmd --complete-reload",
    "firewall-cmd --complete-reload; systemctl reset-failed docker; systemctl restart docker",
  ),
  stopFirewalld: sh(
    "systemctl stop firewalld",
    "systemctl stop firewalld; systemctl reset-failed docker; systemctl restart docker",
  ),
  enableUfw: sh("ufw enable", "ufw allow 18000/tcp && ufw --force enable"),
  reloadUfw: sh("ufw reload"),
  disableUfw: sh("ufw disable"),
  reboot: { name: "reboot", disturb: (host) => host.reboot().then(() => host.exec("podman start podman")) },
} satisfies Readonly<Record<string, Disturbance>>;

export const allDisturbances: readonly Disturbance[] = Object.values(disturbances);

/** Disturbances that can affect the rules of iptables. */
export const iptablesDisturbances: readonly Disturbance[] = [
  disturbances.flushRuleset,
  disturbances.flushTables,
  disturbances.restartNftables,
  disturbances.restartDocker,
  disturbances.startFirewalld,
  disturbances.reloadFirewalld,
  disturbances.stopFirewalld,
  disturbances.enableUfw,
  disturbances.reloadUfw,
  disturbances.reboot,
];

export type Plan = {
  readonly suite: "bookworm" | "trixie";
  readonly filter: "nftables" | "iptables-nft" | "iptables-legacy";
  readonly disturbances: readonly Disturbance[];
};

/**
 * Boots a host, starts probes in containers, disturbs the host in one way after another, and checks what the
 * probes received.
 */
export async function survivesDisturbances(t: Tap, { suite, filter, disturbances }: Plan): Promise<void> {
  const host = await bootFor(t, { suite });
  if (filter === "iptables-legacy") await useLegacy(host);
  await installFirewall(host);
  await configure(host, filter === "nftables" ? "BACKEND=nftables\n" : "BACKEND=iptables\n");
  await startFirewall(host);
  const started = now();
  const probes = await startProbes(host);
  // Everything that status checks is part of it: after a boot the host's addresses appear one by one.
  const intact = `{ ${filter === "nftables" ? nftIntact : iptablesIntact}; } && ec2metaproxy firewall status`;
  for (const { name, disturb } of disturbances) {
    await settle();
    const { rulesBackAfter, unserved, answers, leaks } = await observe(host, probes, intact, () =>
      disturb(host),
    );
    const seen = `seen ${rulesBackAfter.toFixed(1)} s, ${leaks.length} leaks in ${answers} requests`;
    const title = `${suite}, ${filter}, ${name}`.padEnd(62);
    t.comment(
      `table: ${title} expected rules back in 10 s, 0 leaks; ${seen}; unserved ${unserved.toFixed(1)} s`,
    );
    t.ok(rulesBackAfter <= 10, `${name}: the rules are back within 10 s`);
    t.strictSame(leaks, [], `${name}: no container got the host's credentials`);
    const status = await firewall(host, "status");
    t.equal(
      status.code,
      0,
      `${name}: status reports that everything is in place\n${status.stdout}${status.stderr}`,
    );
  }
  await bootsClosed(t, host, probes);
  await detectsLeaks(t, host, probes, started);
}

/**
 * Boots without rules, because the settings are invalid or because the unit does not start: containers get
 * nothing.
 */
async function bootsClosed(t: Tap, host: TestHost, probes: readonly Probe[]): Promise<void> {
  const [docker] = probes;
  if (docker === undefined) return;
  const broken = "/etc/ec2metaproxy/firewall.d/60-broken.conf";
  const override = "/etc/systemd/system/ec2metaproxy-firewall.service.d/broken.conf";
  for (const { name, path, text } of [
    { name: "invalid settings", path: broken, text: "INTERFACE=docker0\n" },
    { name: "a unit that fails", path: override, text: "[Service]\nExecStart=\nExecStart=/nonexistent\n" },
  ]) {
    await host.write(path, text);
    // The timer would repair the second case within seconds.
    await host.exec("systemctl disable ec2metaproxy-firewall.timer");
    await host.reboot();
    const booted = now();
    const hasAnswers = async () => (await answersSince(host, docker, booted)).length > 3;
    await host.waitFor(hasAnswers, { timeoutMs: 60_000, what: "the probe to send requests" });
    const answers = await answersSince(host, docker, booted);
    const got = answers.filter(({ outcome }) => !outcome.startsWith("nothing"));
    t.strictSame(
      got,
      [],
      `boot with ${name}: the container gets nothing, so not the host's credentials either`,
    );
    t.match(
      (await host.exec("curl -s -m 3 http://169.254.169.254/latest/meta-data/iam/security-credentials/"))
        .stdout,
      "ec2-host-role",
      "the host itself gets its role",
    );
    await host.exec(
      `rm ${path}; systemctl daemon-reload; systemctl restart ec2metaproxy-firewall; systemctl enable --now ec2metaproxy-firewall.timer`,
    );
  }
}

/**
 * Without the rules and the route guard the probes do get the host's credentials, so they would have seen a
 * leak.
 */
async function detectsLeaks(
  t: Tap,
  host: TestHost,
  probes: readonly Probe[],
  started: number,
): Promise<void> {
  await host.exec("systemctl stop ec2metaproxy-firewall.timer");
  for (const probe of probes) {
    const leaks = (await answersSince(host, probe, started)).filter(({ outcome }) => outcome === "LEAK");
    t.strictSame(leaks, [], `${probe.name} never got the host's credentials, from its first instruction on`);
  }
  await firewall(host, "remove");
  const removed = now();
  for (const probe of probes.filter(({ name }) => name !== "podman")) {
    await host.waitFor(
      async () => (await answersSince(host, probe, removed)).some(({ outcome }) => outcome === "LEAK"),
      { timeoutMs: 10_000, what: `${probe.name} to reach the real metadata service` },
    );
  }
  t.pass("without rules the containers get the host's role");
}

async function useLegacy(host: TestHost): Promise<void> {
  await host.exec(`set -e
systemctl stop docker
nft flush ruleset
update-alternatives --set iptables /usr/sbin/iptables-legacy
update-alternatives --set ip6tables /usr/sbin/ip6tables-legacy
systemctl start docker`);
}
