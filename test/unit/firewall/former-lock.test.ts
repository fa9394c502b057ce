import t from "tap";
import type { Outcome } from "../../../src/firewall/command.ts";
import { parseFormerLock, readFormerLock } from "../../../src/firewall/former-lock.ts";

const set = (name: string, ...elem: readonly unknown[]) => ({ set: { name, elem } });
// nft 1.0.6 prints small numbers as numbers and large ones as texts, and ports by name while they exist.
const table = JSON.stringify({
  nftables: [
    { metainfo: { version: "1.0.6" } },
    { table: { family: "bridge", name: "ec2metaproxy_lock" } },
    set("alive", { elem: { val: "veth", timeout: 120, expires: 119 } }),
    set("owned", "veth1"),
    set("port_mac", { concat: ["veth1", "02:42:ac:11:00:02"] }, { concat: ["77", "02:42:ac:11:00:03"] }),
    set("port_ipv4", { concat: ["veth1", 2_886_795_266] }),
    set("port_ipv6", { concat: ["veth1", "0xfd000000000000000000000000000002"] }, { concat: ["veth1", 1] }),
  ],
});
const links = JSON.stringify([
  { ifindex: 7, ifname: "veth1" },
  { ifindex: 8, ifname: "docker0" },
]);
const elements = [
  { port: 7, kind: "mac", value: "02:42:ac:11:00:02" },
  { port: 7, kind: "ipv4", value: "0xac110002" },
  { port: 7, kind: "ipv6", value: "0xfd000000000000000000000000000002" },
  { port: 7, kind: "ipv6", value: "0x00000000000000000000000000000001" },
];

t.test("what is bound to a port that exists is read, as the guard writes it", async (t) => {
  t.same(parseFormerLock(table, links), elements);
});

t.test("a port whose index is another link's name is not taken for that link", async (t) => {
  const names = JSON.stringify([{ ifindex: 9, ifname: "77" }]);
  t.same(parseFormerLock(table, names), []);
});

t.test("a table that is not there or cannot be read has nothing", async (t) => {
  const outcome = (stdout: string, exitCode = 0): Outcome => ({ kind: "ran", exitCode, stdout, stderr: "" });
  const read = (nft: Outcome, ip: Outcome) =>
    readFormerLock(async (command) => (command === "nft" ? nft : ip));
  t.same(await read(outcome(table), outcome(links)), elements);
  t.same(await read(outcome("", 1), outcome(links)), []);
  t.same(await read(outcome(table), outcome("", 1)), []);
  t.same(await read(outcome("{"), outcome(links)), []);
  t.same(await read(outcome('{"nftables":[]}'), outcome(links)), []);
  t.same(await read({ kind: "missing" }, outcome(links)), []);
});
