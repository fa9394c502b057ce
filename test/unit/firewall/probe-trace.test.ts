import t from "tap";
import { readTrace } from "../../../src/firewall/probe-trace.ts";

/** Lines as nft 1.0.6 prints them. */
const own = "ec2metaproxy_probe_1";
const probe = { mac: "2a:86:7b:df:66:20", address: "172.17.255.254", metadata: "169.254.169.254" };
const packet = (
  id: string,
  chain: string,
  more: { from?: string; to?: string; port?: number; iif?: string } = {},
) =>
  `trace id ${id} ${chain} packet: ${more.iif ?? 'iif "docker0"'} ether saddr 2a:86:7b:df:66:20 ether daddr fe:ff:ff:00:00:01 ip saddr ${more.from ?? probe.address} ip daddr ${more.to ?? "172.17.0.1"} ip dscp cs0 ip ecn not-ect ip ttl 64 ip id 1 ip length 60 tcp sport 55236 tcp dport ${more.port ?? 18_000} tcp flags == syn tcp window 64240 `;
const entered = [
  packet("a1", `bridge ${own} asked`, { to: probe.metadata, port: 80, iif: 'iif "vethprobe1"' }),
  `trace id a1 bridge ${own} asked rule ether saddr 2a:86:7b:df:66:20 meta nftrace set 1 (verdict continue)`,
  packet("a1", "inet ec2metaproxy redirect_metadata", { to: probe.metadata, port: 80 }),
  "trace id a1 inet ec2metaproxy redirect_metadata rule redirect to :18000 (verdict accept)",
];

t.test("the rule that drops is named, with its table, its chain and the chain the packet came in by", (t) => {
  const lines = [
    ...entered,
    packet("b2", "ip filter INPUT"),
    "trace id b2 ip filter INPUT rule jump LOCALINPUT (verdict jump LOCALINPUT)",
    'trace id b2 ip filter LOCALINPUT rule tcp dport 18000 counter packets 7 bytes 420 reject comment "x" (verdict drop)',
  ];
  t.same(readTrace(lines, own, probe), {
    kind: "eaten",
    by: {
      table: "ip filter",
      chain: "LOCALINPUT",
      base: "INPUT",
      by: 'its rule tcp dport 18000 counter reject comment "x"',
      chains: ["INPUT", "LOCALINPUT"],
      packet: { destination: "172.17.0.1", sourcePort: 55_236, port: 18_000, inInterface: "docker0" },
    },
  });
  t.end();
});

t.test("a policy that drops is named, and a rule that the monitor does not know by its handle", (t) => {
  const policy = [...entered, packet("b2", "ip filter INPUT"), "trace id b2 ip filter INPUT policy drop "];
  t.match(readTrace(policy, own, probe), { kind: "eaten", by: { by: "its policy, drop" } });
  const handle = [
    packet("b2", "ip filter INPUT"),
    "trace id b2 ip filter INPUT unknown rule handle 2 (verdict drop)",
  ];
  t.match(readTrace(handle, own, probe), { kind: "eaten", by: { by: "its rule handle 2" } });
  t.end();
});

t.test("other packets are left out, also where they are dropped", (t) => {
  const other = [
    packet("c3", "ip filter INPUT", { from: "172.17.0.9" }),
    "trace id c3 ip filter INPUT policy drop",
    "trace id c4 ip filter INPUT policy drop",
    "nonsense",
  ];
  t.same(readTrace(other, own, probe), { kind: "not seen" });
  t.match(readTrace([...other, ...entered], own, probe), { kind: "passed", redirected: false });
  t.match(readTrace([...entered, packet("b2", "ip filter INPUT")], own, probe), { redirected: true });
  t.end();
});

t.test("an answer that is dropped on its way out is told from a request", (t) => {
  const lines = [
    packet("d5", "ip out o", { from: "172.17.0.1", to: probe.address, iif: 'oif "docker0"' }),
    "trace id d5 ip out o policy drop",
  ];
  t.match(readTrace(lines, own, probe), { kind: "eaten", by: { packet: { inInterface: undefined } } });
  t.end();
});
