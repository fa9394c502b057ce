import t from "tap";
import { parseAddresses } from "../../../src/firewall/host-addresses.ts";
import { compareBridgeTable, renderBridgeTable } from "../../../src/firewall/nft-bridge.ts";

const sources = ["169.254.169.254", "fd00:ec2::254", "172.17.0.1", "10.0.0.5", "fe80::42:acff:fe11:1"];
const rendered = renderBridgeTable(sources, "by kind");
const whole = { present: true, missing: [], unexpected: [] };

/** As nft 1.0.6 and 1.1.3 list it. */
const listing = rendered
  .replace(/^(add|delete) table .*\n/gm, "")
  .replace("priority -300;", "priority dstnat;");

t.test("the table has what was rendered, in whatever spelling it is listed", (t) => {
  t.strictSame(compareBridgeTable(sources, "by kind", listing), whole);
  t.strictSame(compareBridgeTable(sources.toReversed(), "by kind", listing), whole);
  t.strictSame(
    compareBridgeTable(sources, "by kind", listing.replaceAll("counter ", "counter packets 1 bytes 60 ")),
    whole,
  );
  t.strictSame(
    compareBridgeTable(sources, "by kind", listing.replace("meta protocol 8021q", "meta protocol vlan")),
    whole,
  );
  t.end();
});

t.test("addresses stand in it as numbers, ascending and without leading zeros", (t) => {
  t.match(rendered, "@nh,96,32 { 0xa000005, 0x7f000001, 0xa9fea9fe, 0xac110001 } counter drop");
  t.match(
    rendered,
    "@nh,64,128 { 0x1, 0xfd000ec2000000000000000000000254, 0xfe800000000000000042acfffe110001 } counter",
  );
  t.end();
});

t.test(
  "nothing is matched by name that would also compare the frame's own EtherType or ARP's hardware type",
  (t) => {
    t.notMatch(rendered, /\b(ip saddr|ip6 saddr|arp|ether type|icmpv6 type)\b(?! goto)/);
    t.end();
  },
);

const changed: readonly {
  readonly is: string;
  readonly listing: string | undefined;
  readonly sources?: readonly string[];
  readonly missing?: readonly string[];
  readonly unexpected?: readonly string[];
  readonly present?: boolean;
}[] = [
  { is: "no table", listing: undefined, present: false, missing: ["table bridge ec2metaproxy"] },
  {
    is: "an address that the host has got since",
    listing,
    sources: [...sources, "172.18.0.1", "fd12::1"],
    missing: [
      "table bridge ec2metaproxy: the address fd12::1",
      "table bridge ec2metaproxy: the address 172.18.0.1",
    ],
  },
  {
    is: "an address that the host has no more",
    listing,
    sources: sources.filter((address) => address !== "10.0.0.5"),
    unexpected: ["table bridge ec2metaproxy: the address 10.0.0.5"],
  },
  {
    is: "a rule that is gone",
    listing: listing.replace(/^.*@nh,112,8 .*\n/m, ""),
    missing: [
      'table bridge ec2metaproxy: chain arp_source: @nh,112,8 0x7f counter drop comment "speaks as the host"',
    ],
  },
  {
    is: "a rule that lets pass",
    listing: listing.replace("policy accept;\n", "policy accept;\n\t\taccept\n"),
    unexpected: ["table bridge ec2metaproxy: chain prerouting: accept"],
  },
  {
    is: "a chain that is gone",
    listing: listing.replace(/\tchain arp_source \{[^}]*\}[^}]*\}\n/, ""),
    missing: ["table bridge ec2metaproxy: chain arp_source"],
  },
  {
    is: "a table that was put to sleep",
    listing: listing.replace("{\n", "{\n\tflags dormant\n"),
    unexpected: ["table bridge ec2metaproxy: table: flags dormant"],
  },
];

for (const {
  is,
  listing,
  sources: wanted = sources,
  missing = [],
  unexpected = [],
  present = true,
} of changed) {
  t.test(`${is} is noticed`, (t) => {
    t.strictSame(compareBridgeTable(wanted, "by kind", listing), { present, missing, unexpected });
    t.end();
  });
}

t.test(
  "the host's addresses are those of all interfaces, without the link-local ones of bridge ports",
  (t) => {
    const text = `1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
    inet 127.0.0.1/8 scope host lo
       valid_lft forever preferred_lft forever
    inet6 ::1/128 scope host
2: ens5: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 9001 qdisc mq state UP group default qlen 1000
    inet 10.0.0.5/24 metric 512 brd 10.0.0.255 scope global dynamic ens5
       valid_lft 3001sec preferred_lft 3001sec
    inet6 2600:1f18::5/128 scope global dynamic noprefixroute
    inet6 fe80::8ff:fe00:5/64 scope link
3: docker0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default
    inet 172.17.0.1/16 brd 172.17.255.255 scope global docker0
    inet6 fe80::42:acff:fe11:1/64 scope link tentative
9: veth1@if8: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue master docker0 state UP group default
    inet6 fe80::1c2b:3dff:fe4e:5f60/64 scope link
10: wg0: <POINTOPOINT,NOARP,UP,LOWER_UP> mtu 1420 qdisc noqueue state UNKNOWN group default qlen 1000
    inet 10.99.0.1 peer 10.99.0.2/32 scope global wg0
11: bond0.5@bond0: <BROADCAST> mtu 1500 qdisc noop master vrf0 state DOWN group default qlen 1000
    inet 10.50.0.1/24 scope global bond0.5
`;
    t.strictSame(parseAddresses(text), [
      "127.0.0.1",
      "::1",
      "10.0.0.5",
      "2600:1f18::5",
      "fe80::8ff:fe00:5",
      "172.17.0.1",
      "fe80::42:acff:fe11:1",
      "10.99.0.1",
      "10.50.0.1",
    ]);
    t.end();
  },
);
