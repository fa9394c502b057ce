import t from "tap";
import { addressBytes, canonicalAddress } from "../../../src/config/address.ts";

const forms = [
  ["172.17.0.2", "172.17.0.2"],
  ["::ffff:172.17.0.2", "172.17.0.2"],
  ["::FFFF:172.17.0.2", "172.17.0.2"],
  ["::ffff:ac11:2", "172.17.0.2"],
  ["0:0:0:0:0:ffff:ac11:0002", "172.17.0.2"],
  ["FD00:EC2::254", "fd00:ec2::254"],
  ["fd00:0ec2:0:0:0:0:0:254", "fd00:ec2::254"],
  ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
  ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
  ["fe80::1%eth0", "fe80::1"],
  ["::1", "::1"],
  ["::", "::"],
  ["::ffff:0:ac11:2", "::ffff:0:ac11:2"],
  ["", undefined],
  ["localhost", undefined],
  ["172.17.0.02", undefined],
  ["172.17.0.256", undefined],
  ["172.17.0.2/16", undefined],
  ["1.2.3", undefined],
  ["::g", undefined],
  ["%eth0", undefined],
] as const;

for (const [text, expected] of forms) {
  t.test(`${JSON.stringify(text)} is ${expected ?? "no address"}`, async (t) => {
    t.equal(canonicalAddress(text), expected);
    if (expected !== undefined) t.equal(canonicalAddress(expected), expected, "and that form is its own");
  });
}

t.test("the bytes of an address are in network order", async (t) => {
  t.same([...addressBytes("172.17.0.2")], [172, 17, 0, 2]);
  t.same([...addressBytes("fd00:ec2::254")], [0xfd, 0, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x54]);
  t.same([...addressBytes("::1")], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
  t.same([...addressBytes("2001:db8::")], [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  t.same([...addressBytes("1:2:3:4:5:6:7:8")], [0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8]);
  t.same([...addressBytes("::1.2.3.4")], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
});
