import t from "tap";
import { compareBridgeTable, renderBridgeTable } from "../../../src/firewall/nft-bridge.ts";

const sources = ["169.254.169.254", "fd00:ec2::254", "172.17.0.1", "10.0.0.5", "fe80::42:acff:fe11:1"];
const rendered = renderBridgeTable(sources, "by kind");
const whole = { present: true, missing: [], unexpected: [] };

/** As nft 1.0.6 and 1.1.3 list it. */
const listing = rendered
  .replace(/^(add|delete) table .*\n/gm, "")
  .replace("priority -300;", "priority dstnat;");

t.test("a listing of the rendered table is in place, in every spelling of nft", (t) => {
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

t.test("addresses are rendered as numbers, ascending and without leading zeros", (t) => {
  t.match(rendered, "@nh,96,32 { 0xa000005, 0x7f000001, 0xa9fea9fe, 0xac110001 } counter drop");
  t.match(
    rendered,
    "@nh,64,128 { 0x1, 0xfd000ec2000000000000000000000254, 0xfe800000000000000042acfffe110001 } counter",
  );
  t.end();
});

t.test(
  "no match by name, which would also match the EtherType of the frame or the hardware type of ARP",
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
    is: "an address that was added to the host",
    listing,
    sources: [...sources, "172.18.0.1", "fd12::1"],
    missing: [
      "table bridge ec2metaproxy: the address fd12::1",
      "table bridge ec2metaproxy: the address 172.18.0.1",
    ],
  },
  {
    is: "an address that was removed from the host",
    listing,
    sources: sources.filter((address) => address !== "10.0.0.5"),
    unexpected: ["table bridge ec2metaproxy: the address 10.0.0.5"],
  },
  {
    is: "a missing rule",
    listing: listing.replace(/^.*@nh,112,8 .*\n/m, ""),
    missing: [
      'table bridge ec2metaproxy: chain arp_source: @nh,112,8 0x7f counter drop comment "speaks as the host"',
    ],
  },
  {
    is: "an added accept rule",
    listing: listing.replace("policy accept;\n", "policy accept;\n\t\taccept\n"),
    unexpected: ["table bridge ec2metaproxy: chain prerouting: accept"],
  },
  {
    is: "a missing chain",
    listing: listing.replace(/\tchain arp_source \{[^}]*\}[^}]*\}\n/, ""),
    missing: ["table bridge ec2metaproxy: chain arp_source"],
  },
  {
    is: "a table with the flag dormant",
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
  t.test(`${is} is detected`, (t) => {
    t.strictSame(compareBridgeTable(wanted, "by kind", listing), { present, missing, unexpected });
    t.end();
  });
}
