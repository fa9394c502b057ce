import t from "tap";
import { readIpEvent } from "../../../src/firewall/ip-events.ts";

/** Lines that `ip -o monitor label link address rule` of iproute2 6.1 prints. */
const lines = [
  ["[RULE]170:\tfrom all to 169.254.169.254 blackhole", "routing-rule"],
  ["[RULE]Deleted 169:\tfrom all to fd00:ec2::254 iif lo goto 171", "routing-rule-removed"],
  ["[RULE]Deleted 171:\tfrom all to fd00:ec2::254 nop", "routing-rule-removed"],
  ["[RULE]Deleted 32766:\tfrom all lookup main", undefined],
  ["[RULE]1700:\tfrom all lookup 7", undefined],
  [
    "[ADDR]4: b0    inet 10.9.9.1/24 scope global b0\\       valid_lft forever preferred_lft forever",
    "address",
  ],
  ["[ADDR]Deleted 4: b0    inet 10.9.9.1/24 scope global b0\\       valid_lft forever", "address"],
  ["[LINK]3: v0@v1: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 master b0 state UP", "link"],
  ["[LINK]Deleted 3: v0@if7: <BROADCAST> mtu 1500 state DOWN", "link"],
  ["[LINK]91: 57@if2: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 state UP", "numbered-link"],
  ["[LINK]Deleted 91: 57: <BROADCAST> mtu 1500 state DOWN", "numbered-link"],
  ["[LINK]3: 5v@v1: <BROADCAST> mtu 1500 state DOWN", "link"],
  ["netlink receive error No buffer space available (105)", "lost"],
  ["", undefined],
  ["Timestamp: Wed", undefined],
] as const;
for (const [line, expected] of lines)
  t.test(`${JSON.stringify(line.slice(0, 60))} is about ${expected ?? "nothing that matters"}`, async (t) => {
    t.equal(readIpEvent(line), expected);
  });
