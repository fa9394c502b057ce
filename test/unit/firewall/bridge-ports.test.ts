import t from "tap";
import { parseNamespaceIds, parsePorts } from "../../../src/firewall/bridge-ports.ts";

t.test("a port's index, bridge and namespace are read; the rest of ip's answer is not", async (t) => {
  // iproute2 6.1, shortened. Netavark gives every container ifindex 2.
  const listing = JSON.stringify([
    { ifindex: 7, link_index: 2, ifname: "veth1", master: "docker0", link_netnsid: 0, linkinfo: {} },
    { ifindex: 9, link_index: 2, ifname: "veth2", master: "podman1", link_netnsid: 3 },
    { ifindex: 11, link: "v1", ifname: "v0" },
    { ifindex: "12", link_netnsid: 4 },
    { link_netnsid: 5 },
    null,
    {},
  ]);
  t.same(parsePorts(listing), [
    { index: 7, bridge: "docker0", namespaceId: 0 },
    { index: 9, bridge: "podman1", namespaceId: 3 },
    { index: 11, bridge: undefined, namespaceId: undefined },
  ]);
});

t.test("a host without veths has no ports", async (t) => {
  t.same(parsePorts(""), []);
  t.same(parsePorts("[]\n"), []);
  t.throws(() => parsePorts("{}"), { message: /ip printed no list/ });
  t.throws(() => parsePorts("Usage: ip"));
});

t.test("namespaces without an id, such as the host's own, are left out", async (t) => {
  t.same(
    [
      ...parseNamespaceIds(
        "4026531833 unassigned\n4026532177          0\n  4026532473 12\n\nx 1\n4026532474\n",
      ),
    ],
    [
      ["4026532177", 0],
      ["4026532473", 12],
    ],
  );
});
