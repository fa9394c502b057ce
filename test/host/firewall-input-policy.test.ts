import { setTimeout as delay } from "node:timers/promises";
import t from "tap";
import { startAws } from "../support/host/aws.ts";
import { bootFor } from "../support/host/boot.ts";
import { containerEngine } from "../support/host/engine.ts";
import { configure, firewall, installFirewall } from "../support/host/firewall-host.ts";
import type { TestHost } from "../support/host/host.ts";
import { hostProxy } from "../support/host/proxy.ts";
import { canBoot } from "../support/host/requirements.ts";
import { startProxy } from "../support/proxy.ts";

/**
 * Firewalls that drop unknown input: how they are started, and whether containers are served without a change
 * by the operator.
 */
const firewalls = [
  { name: "ufw", backend: "nftables", start: "ufw --force enable", stop: "ufw --force reset", served: false },
  { name: "ufw", backend: "iptables", start: "ufw --force enable", stop: "ufw --force reset", served: true },
  {
    name: "firewalld, bridges in the default zone",
    backend: "nftables",
    start: "systemctl start firewalld",
    stop: "systemctl stop firewalld; systemctl reset-failed docker; systemctl restart docker",
    served: true,
  },
  {
    name: "firewalld, bridges in the default zone",
    backend: "iptables",
    start: "systemctl start firewalld",
    stop: "systemctl stop firewalld; systemctl reset-failed docker; systemctl restart docker",
    served: true,
  },
  {
    name: "firewalld, Docker started after it",
    backend: "nftables",
    start: "systemctl start firewalld && systemctl reset-failed docker && systemctl restart docker",
    stop: "systemctl stop firewalld; systemctl reset-failed docker; systemctl restart docker",
    served: true,
  },
  {
    name: "a chain of nftables",
    backend: "nftables",
    start: `nft 'table inet filter { chain input { type filter hook input priority filter; policy drop;
      ct state established,related accept; iif lo accept; tcp dport 22 accept; }; }'`,
    stop: "nft delete table inet filter",
    served: false,
  },
  {
    name: "iptables with a policy",
    backend: "nftables",
    start: "iptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT && iptables -P INPUT DROP",
    stop: "iptables -P INPUT ACCEPT; iptables -F INPUT",
    served: false,
  },
] as const;

/** The rules of all programs, without packet counters. */
async function rules(host: TestHost): Promise<string> {
  const { stdout } = await host.exec(
    "nft -s list ruleset 2>/dev/null; iptables-save; ip6tables-save; ip -4 rule; ip -6 rule",
  );
  return stdout
    .replace(/^#.*\n/gm, "")
    .replace(/\[\d+:\d+\]/g, "")
    .replace(/counter packets \d+ bytes \d+/g, "counter");
}

/** Docker reacts to a start of firewalld with a delay. This waits until the rules no longer change. */
async function settledRules(host: TestHost): Promise<string> {
  for (let before = await rules(host); ; ) {
    await delay(2_000);
    const after = await rules(host);
    if (after === before) return after;
    before = after;
  }
}

if (canBoot(t)) {
  t.test(
    "on a host whose INPUT policy is drop, containers are served, or `firewall status` names the command to run",
    async (t) => {
      const host = await bootFor(t, { suite: "bookworm" });
      await startAws(host);
      const docker = await containerEngine(host, "docker");
      await startProxy(hostProxy(host), {});
      await installFirewall(host);
      await docker.run({ name: "client", args: ["--restart=always"] });
      // Any answer of the proxy will do. curl prints 000 if there is none.
      const answered = async () =>
        (
          await docker.inNetwork(
            "client",
            "curl -s -m 2 -o /dev/null -w '%{http_code}' http://169.254.169.254/",
            { check: false },
          )
        ).stdout !== "000";

      for (const { name, backend, start, stop, served } of firewalls) {
        await t.test(`${name}, ${backend}`, async (t) => {
          await host.exec(start);
          await configure(host, `BACKEND=${backend}\n`);
          const before = await settledRules(host);
          await firewall(host, "apply");
          const note = / {2}note: .*: run {2}(.*?)(?: {2}\(|$)/m.exec(
            (await firewall(host, "status")).stdout,
          )?.[1];
          t.equal(
            await answered(),
            served,
            served ? "served without a change" : "not served before the command",
          );
          t.equal(
            note === undefined,
            served,
            note === undefined ? "status has no note" : `status names the command: ${note}`,
          );
          if (note !== undefined) {
            await host.exec(note);
            t.ok(await answered(), "served after the command");
            t.notMatch((await firewall(host, "status")).stdout, "note:", "the note is gone");
          }
          await firewall(host, "remove");
          if (note === undefined)
            t.equal(await rules(host), before, "remove does not change the rules of other programs");
          t.comment(
            `table: INPUT drops, ${name}, ${backend}: ${note === undefined ? "served" : `served after: ${note}`}`,
          );
          await host.exec(stop, { check: false });
        });
      }
    },
  );

  t.test(
    "remove restores the rules of Docker, ufw and firewalld byte for byte, with either backend",
    async (t) => {
      const host = await bootFor(t, { suite: "bookworm" });
      await containerEngine(host, "docker");
      await installFirewall(host);
      for (const start of [
        "true",
        "ufw --force enable",
        "ufw --force disable; systemctl start firewalld; systemctl reset-failed docker; systemctl restart docker",
      ]) {
        await host.exec(start);
        for (const backend of ["nftables", "iptables"]) {
          await configure(host, `BACKEND=${backend}\nHOST_ACCESS=root\n`);
          const before = await settledRules(host);
          t.equal((await firewall(host, "apply")).code, 0);
          t.not(await rules(host), before);
          await firewall(host, "remove");
          t.equal(await rules(host), before, `after ${start}: ${backend}`);
        }
      }
    },
  );
}
