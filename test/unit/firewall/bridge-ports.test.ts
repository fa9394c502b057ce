import t from "tap";
import { parsePorts } from "../../../src/firewall/bridge-ports.ts";

t.test("a port's index, bridge and namespace are read; the rest of ip's answer is not", async (t) => {
  // iproute2 6.1, shortened. Netavark gives every container ifindex 2.
  const linkinfo = { info_kind: "veth" };
  const listing = JSON.stringify([
    { ifindex: 7, link_index: 2, ifname: "veth1", master: "docker0", link_netnsid: 0, linkinfo },
    { ifindex: 9, link_index: 2, ifname: "veth2", master: "podman1", link_netnsid: 3, linkinfo },
    { ifindex: 11, link: "v1", ifname: "v0", linkinfo },
    { ifindex: 12, ifname: "docker0", linkinfo: { info_kind: "bridge" } },
    { ifindex: 13, ifname: "eth0" },
    { ifindex: "14", link_netnsid: 4, linkinfo },
    { link_netnsid: 5, linkinfo },
    null,
    {},
  ]);
  t.same(parsePorts(listing), [
    { index: 7, bridge: "docker0", namespaceId: 0, isAmbiguous: false },
    { index: 9, bridge: "podman1", namespaceId: 3, isAmbiguous: false },
    { index: 11, bridge: undefined, namespaceId: undefined, isAmbiguous: false },
  ]);
});

t.test("a port whose index is the name of another link is ambiguous", async (t) => {
  const linkinfo = { info_kind: "veth" };
  const listing = [
    { ifindex: 4, ifname: "v4", linkinfo },
    { ifindex: 5, ifname: "5", linkinfo },
    { ifindex: 6, ifname: "v6", linkinfo },
    { ifindex: 7, ifname: "v7", linkinfo },
    { ifindex: 70, ifname: "4", linkinfo: { info_kind: "bridge" } },
    { ifindex: 71, ifname: "eth0", altnames: ["6"] },
  ];
  const ambiguous = parsePorts(JSON.stringify(listing)).filter(({ isAmbiguous }) => isAmbiguous);
  t.same(
    ambiguous.map(({ index }) => index),
    [4, 6],
  );
});

t.test("a link's name with characters that ip does not escape hides no port", async (t) => {
  const listing = `[{"ifindex":4,"ifname":"a\u0001\u001b\ufffdb"},\n{"ifindex":5,"ifname":"v","linkinfo":{"info_kind":"veth"}}]`;
  t.match(parsePorts(listing), [{ index: 5 }]);
});

t.test("a host without veths has no ports", async (t) => {
  t.same(parsePorts(""), []);
  t.same(parsePorts("[]\n"), []);
  t.throws(() => parsePorts("{}"), { message: /ip printed no list/ });
  t.throws(() => parsePorts("Usage: ip"));
});
