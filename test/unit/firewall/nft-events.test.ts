import t from "tap";
import { type NftChange, NftEvents } from "../../../src/firewall/nft-events.ts";

/** What `nft monitor` of 1.0.6 prints, without the generation line that ends each transaction. */
const transactions: readonly (readonly [string, string, Partial<NftChange> | undefined])[] = [
  [
    "the lock, made by us",
    `add table bridge ec2metaproxy_lock
add set bridge ec2metaproxy_lock writer { type mark; }
add element bridge ec2metaproxy_lock writer { 0x0000004d }
add rule bridge ec2metaproxy_lock locked meta protocol arp goto arp_source`,
    { base: false, lock: true, marks: [0x4d] },
  ],
  [
    "an element of the lock, changed by us",
    `add element bridge ec2metaproxy_lock port_ipv4 { "veth-1-2" . 0xac1e0102 }
delete element bridge ec2metaproxy_lock writer { 0x0000004d }
add element bridge ec2metaproxy_lock writer { 0xffffffff }`,
    { lock: true, marks: [0xffffffff] },
  ],
  [
    "an element of the lock, changed by somebody else",
    `delete element bridge ec2metaproxy_lock alive { "veth" timeout 2m expires 1m }`,
    { lock: true, marks: [] },
  ],
  [
    "a flush of everything",
    `delete rule inet ec2metaproxy guard_input handle 5
delete chain inet ec2metaproxy guard_input
delete table inet ec2metaproxy
delete set bridge ec2metaproxy_lock alive
delete element bridge ec2metaproxy_lock writer { 0x0000004d }
delete table bridge ec2metaproxy_lock`,
    { base: true, removed: ["inet ec2metaproxy"], lock: true, marks: [] },
  ],
  [
    "a table of the base rules that is replaced",
    `delete chain inet ec2metaproxy guard_input
delete table inet ec2metaproxy
add table inet ec2metaproxy
add chain inet ec2metaproxy guard_input { type filter hook input priority -1; policy accept; }`,
    { base: true, removed: [], lock: false },
  ],
  [
    "a rule that somebody puts into our table",
    `insert rule inet ec2metaproxy guard_input accept`,
    { base: true, lock: false },
  ],
  [
    "the bridge table",
    `delete table bridge ec2metaproxy`,
    { base: true, removed: ["bridge ec2metaproxy"], lock: false },
  ],
  ["a rule of iptables-nft, in a base chain", `delete rule ip nat PREROUTING handle 3`, { iptables: true }],
  [
    "a chain of ours of iptables-nft",
    `delete chain ip6 filter EC2METAPROXY-GUARD`,
    { iptables: true, base: false },
  ],
  ["a table of iptables-nft", `delete table ip nat`, { iptables: true }],
  ["a rule that Docker adds", `add rule ip nat DOCKER iifname "docker0" counter return`, undefined],
  ["a rule that Docker removes", `delete rule ip nat DOCKER handle 9`, undefined],
  ["another table", `add table ip x\nadd chain ip x ec2metaproxy`, undefined],
  [
    "a table with a similar name",
    `add table inet ec2metaproxy2\nadd table bridge ec2metaproxy_lock2`,
    undefined,
  ],
  [
    "a comment that looks like an event",
    `add rule ip x y comment "delete table inet ec2metaproxy"`,
    undefined,
  ],
  ["nothing that is an event", `# a comment\n\nsomething else`, undefined],
];
for (const [what, text, expected] of transactions)
  t.test(`${what}: ${JSON.stringify(expected)}`, async (t) => {
    const events = new NftEvents();
    for (const line of text.split("\n")) t.equal(events.read(line), undefined, "not before its end");
    const change = events.read("# new generation 12 by process 345 (nft)");
    if (expected === undefined) t.equal(change, undefined);
    else t.match(change, expected);
  });

t.test("lost events may have been about anything, and not only our own", async (t) => {
  const events = new NftEvents();
  events.read("add element bridge ec2metaproxy_lock writer { 0x00000001 }");
  t.same(events.read("# ERROR: We lost some netlink events!"), {
    base: true,
    removed: [],
    lock: true,
    iptables: true,
    marks: [],
  });
});

t.test("nothing of a transaction is left for the next", async (t) => {
  const events = new NftEvents();
  events.read("add element bridge ec2metaproxy_lock writer { 0x00000001 }");
  events.read("delete table inet ec2metaproxy");
  events.read("# new generation 1 by process 2 (nft)");
  events.read("delete element bridge ec2metaproxy_lock mac { 02:42:ac:11:00:02 }");
  t.same(events.read("# new generation 2 by process 3 (nft)"), {
    base: false,
    removed: [],
    lock: true,
    iptables: false,
    marks: [],
  });
});
