import t from "tap";
import { countedSince } from "../../../src/firewall/probe-counters.ts";

const probe = { family: "ipv4", bridge: "docker0", address: "172.17.255.254", ports: [80, 18_000] } as const;
const listing = (rules: readonly string[], policy = "ACCEPT [0:0]") =>
  ["*filter", `:INPUT ${policy}`, ...rules, "COMMIT"].join("\n");

/** What a rule's counter says when it goes from 1 to 3. */
const counted = (rule: string) =>
  countedSince(listing([`[1:60] ${rule}`]), listing([`[3:180] ${rule}`]), probe);

const suspects = [
  "-A INPUT -j DROP",
  "-A INPUT -j REJECT --reject-with icmp-host-prohibited",
  "-A INPUT ! -i br-old -p tcp -m tcp --dport 18000 -j DROP",
  "-A INPUT -i docker+ -j DROP",
  "-A INPUT -s 172.17.0.0/16 -j DROP",
];
for (const rule of suspects)
  t.test(`${rule} is named when its counter grows`, (t) => {
    t.same(counted(rule), [{ table: "filter", chain: "INPUT", by: `its rule ${rule}` }]);
    t.end();
  });

const innocent = [
  "-A INPUT -j ACCEPT",
  "-A INPUT -p udp -j DROP",
  "-A INPUT -i eth0 -j DROP",
  "-A INPUT ! -i docker0 -j DROP",
  "-A INPUT -p tcp -m tcp --dport 22 -j DROP",
  "-A INPUT -s 203.0.113.9/32 -j DROP",
];
for (const rule of innocent)
  t.test(`${rule} cannot have dropped the probe`, (t) => {
    t.same(counted(rule), []);
    t.end();
  });

t.test("a policy is named, and a counter that stands still is not", (t) => {
  const policy = (packets: number) => listing([], `DROP [${packets}:60]`);
  t.match(countedSince(policy(1), policy(2), probe), [{ chain: "INPUT", by: /policy/ }]);
  t.same(countedSince(policy(1), policy(1), probe), []);
  t.end();
});
