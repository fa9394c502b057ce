import type { Test as Tap } from "tap";
import { bootFor } from "./boot.ts";
import {
  type Asker,
  answersSince,
  configure,
  firewall,
  installFirewall,
  now,
  observe,
  settle,
  startAskers,
  startFirewall,
} from "./firewall-host.ts";
import type { TestHost } from "./host.ts";

const nftWhole =
  "nft list chain inet ec2metaproxy redirect_metadata && ip rule | grep -q '^170:' && ip -6 rule | grep -q '^170:'";
const iptablesWhole = `for i in iptables ip6tables; do
  $i -w -t nat -C PREROUTING -j EC2METAPROXY-REDIRECT && $i -w -t mangle -C FORWARD -j EC2METAPROXY-FORWARD || exit 1
done; ip rule | grep -q '^170:' && ip -6 rule | grep -q '^170:'`;

export type Disturbance = { readonly what: string; readonly disturb: (host: TestHost) => Promise<unknown> };

const sh = (what: string, command = what): Disturbance => ({ what, disturb: (host) => host.exec(command) });

/** In an order in which each leaves the host as the next one wants it. */
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
  reboot: { what: "reboot", disturb: (host) => host.reboot().then(() => host.exec("podman start podman")) },
} satisfies Readonly<Record<string, Disturbance>>;

export const all: readonly Disturbance[] = Object.values(disturbances);

/** Those that can reach iptables' rules. */
export const thoseOfIptables: readonly Disturbance[] = [
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

/** Boots a host, starts askers in containers, does one thing after another to the host, and looks at what the askers got. */
export async function endures(t: Tap, { suite, filter, disturbances }: Plan): Promise<void> {
  const host = await bootFor(t, { suite });
  if (filter === "iptables-legacy") await useLegacy(host);
  await installFirewall(host);
  await configure(host, filter === "nftables" ? "BACKEND=nftables\n" : "BACKEND=iptables\n");
  await startFirewall(host);
  const started = now();
  const askers = await startAskers(host);
  // With all that status looks at: after a boot, the host's addresses come one after another.
  const whole = `{ ${filter === "nftables" ? nftWhole : iptablesWhole}; } && ec2metaproxy firewall status`;
  for (const { what, disturb } of disturbances) {
    await settle();
    const { rulesBackAfter, unserved, answers, leaks } = await observe(host, askers, whole, () =>
      disturb(host),
    );
    const seen = `seen ${rulesBackAfter.toFixed(1)} s, ${leaks.length} leaks in ${answers} requests`;
    const name = `${suite}, ${filter}, ${what}`.padEnd(62);
    t.comment(
      `table: ${name} expected rules back in 10 s, 0 leaks; ${seen}; unserved ${unserved.toFixed(1)} s`,
    );
    t.ok(rulesBackAfter <= 10, `${what}: the rules are back within 10 s`);
    t.strictSame(leaks, [], `${what}: no container got the host's credentials`);
    const status = await firewall(host, "status");
    t.equal(status.code, 0, `${what}: status says that all is in place\n${status.stdout}${status.stderr}`);
  }
  await bootsClosed(t, host, askers);
  await bites(t, host, askers, started);
}

/** A boot on which the rules cannot be made, because the settings are wrong or because the unit does not even start. */
async function bootsClosed(t: Tap, host: TestHost, askers: readonly Asker[]): Promise<void> {
  const [docker] = askers;
  if (docker === undefined) return;
  const broken = "/etc/ec2metaproxy/firewall.d/60-broken.conf";
  const override = "/etc/systemd/system/ec2metaproxy-firewall.service.d/broken.conf";
  for (const { what, path, text } of [
    { what: "bad settings", path: broken, text: "INTERFACE=docker0\n" },
    { what: "a unit that fails", path: override, text: "[Service]\nExecStart=\nExecStart=/nonexistent\n" },
  ]) {
    await host.write(path, text);
    // It would mend the second case in seconds.
    await host.exec("systemctl disable ec2metaproxy-firewall.timer");
    await host.reboot();
    const booted = now();
    const asked = async () => (await answersSince(host, docker, booted)).length > 3;
    await host.waitFor(asked, { timeoutMs: 60_000, what: "the container to ask" });
    const answers = await answersSince(host, docker, booted);
    const got = answers.filter(({ outcome }) => !outcome.startsWith("nothing"));
    t.strictSame(got, [], `boot with ${what}: the container gets nothing, and not the host's credentials`);
    t.match(
      (await host.exec("curl -s -m 3 http://169.254.169.254/latest/meta-data/iam/security-credentials/"))
        .stdout,
      "ec2-host-role",
      "the host itself does",
    );
    await host.exec(
      `rm ${path}; systemctl daemon-reload; systemctl restart ec2metaproxy-firewall; systemctl enable --now ec2metaproxy-firewall.timer`,
    );
  }
}

/** With the rules and the guard removed the askers do get the host's credentials, so they would have seen a leak. */
async function bites(t: Tap, host: TestHost, askers: readonly Asker[], started: number): Promise<void> {
  await host.exec("systemctl stop ec2metaproxy-firewall.timer");
  for (const asker of askers) {
    const leaks = (await answersSince(host, asker, started)).filter(({ outcome }) => outcome === "LEAK");
    t.strictSame(leaks, [], `${asker.name} never got the host's credentials, from its first instruction on`);
  }
  await firewall(host, "remove");
  const removed = now();
  for (const asker of askers.filter(({ name }) => name !== "podman")) {
    await host.waitFor(
      async () => (await answersSince(host, asker, removed)).some(({ outcome }) => outcome === "LEAK"),
      { timeoutMs: 10_000, what: `${asker.name} to reach the real metadata service` },
    );
  }
  t.pass("without rules the containers reach the host's role");
}

async function useLegacy(host: TestHost): Promise<void> {
  await host.exec(`set -e
systemctl stop docker
nft flush ruleset
update-alternatives --set iptables /usr/sbin/iptables-legacy
update-alternatives --set ip6tables /usr/sbin/ip6tables-legacy
systemctl start docker`);
}
