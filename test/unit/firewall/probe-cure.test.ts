import t from "tap";
import { cure } from "../../../src/firewall/probe-cure.ts";
import type { Eaten } from "../../../src/firewall/probe-trace.ts";

const aim = {
  bridge: "docker0",
  family: "ipv4",
  proxyPort: 18_000,
  zone: undefined,
  iptables: "iptables",
} as const;
const packet = { destination: "172.17.0.1", sourcePort: 40_000, port: 18_000, inInterface: "docker0" };
const early = { ...packet, destination: "169.254.169.254", port: 80 };
const answer = { destination: "172.17.255.254", sourcePort: 18_000, port: 40_000, inInterface: undefined };
const eaten = (table: string, base: string, more: Partial<Eaten> = {}): Eaten => ({
  table,
  chain: base,
  base,
  by: "its policy, drop",
  chains: [base],
  packet,
  ...more,
});

const rows: readonly (readonly [what: string, Eaten, line: string, zone?: string])[] = [
  ["iptables", eaten("ip filter", "INPUT"), "iptables -I INPUT -i docker0 -p tcp --dport 18000 -j ACCEPT"],
  [
    "iptables before the redirect",
    eaten("ip raw", "PREROUTING", { packet: early }),
    "iptables -t raw -I PREROUTING -i docker0 -d 169.254.169.254 -p tcp --dport 80 -j ACCEPT",
  ],
  [
    "iptables on the way out",
    eaten("ip filter", "OUTPUT", { packet: answer }),
    "iptables -I OUTPUT -o docker0 -p tcp --sport 18000 -j ACCEPT",
  ],
  [
    "ufw",
    eaten("ip filter", "INPUT", { chains: ["INPUT", "ufw-before-input"] }),
    "ufw allow in on docker0 to any port 18000 proto tcp",
  ],
  [
    "firewalld",
    eaten("inet firewalld", "filter_INPUT"),
    "firewall-cmd --permanent --zone=docker --add-port=18000/tcp && firewall-cmd --reload",
    "docker",
  ],
  [
    "nftables",
    eaten("inet site", "in"),
    "nft 'insert rule inet site in iifname \"docker0\" tcp dport 18000 accept'",
  ],
  [
    "nftables on the way out",
    eaten("ip out", "o", { packet: answer }),
    "nft 'insert rule ip out o oifname \"docker0\" tcp sport 18000 accept'",
  ],
  ["frames", eaten("bridge site", "pre"), "nft 'insert rule bridge site pre tcp dport 18000 accept'"],
];

for (const [what, by, line, zone] of rows)
  t.test(`the line to run for a drop by ${what}`, (t) => {
    t.match(cure(by, { ...aim, zone }), `Run: ${line}  (`);
    t.end();
  });

t.test("a drop by our own rules is cured by our own command", (t) => {
  t.match(cure(eaten("inet ec2metaproxy", "guard_input"), aim), "ec2metaproxy firewall apply");
  t.end();
});
