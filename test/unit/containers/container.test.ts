import t from "tap";
import {
  addressesOf,
  type Container,
  isStarting,
  staticContainer,
} from "../../../src/containers/container.ts";

function container(changed: Partial<Container> = {}): Container {
  return {
    id: "ab".repeat(32),
    name: "web",
    image: "app:1",
    imageId: "",
    labels: {},
    env: {},
    user: "",
    attachments: [],
    pid: 100,
    risks: [],
    source: "engine",
    ...changed,
  };
}

const starting = [
  ["an engine's container without a process", container({ pid: 0 }), true],
  ["an engine's container with a process", container(), false],
  ["a static container, which never has a process", container({ pid: 0, source: "static" }), false],
] as const;
for (const [what, one, expected] of starting) {
  t.test(`${what} is ${expected ? "starting" : "not starting"}`, async (t) =>
    t.equal(isStarting(one), expected),
  );
}

const both = { network: "app", ipv4: "172.18.0.2", ipv6: "fd00::2", mac: undefined };
const ipv4 = { network: "bridge", ipv4: "172.17.0.2", ipv6: undefined, mac: undefined };
const none = { network: "none", ipv4: undefined, ipv6: undefined, mac: undefined };
const attachments = [
  ["no attachment", [], []],
  ["both families", [both], ["172.18.0.2", "fd00::2"]],
  ["two networks and one without an address", [ipv4, none, both], ["172.17.0.2", "172.18.0.2", "fd00::2"]],
  ["one address on two networks", [ipv4, { ...ipv4, network: "other" }], ["172.17.0.2"]],
] as const;
for (const [what, list, expected] of attachments) {
  t.test(`the addresses of ${what}`, async (t) => {
    t.same(addressesOf(container({ attachments: list })), expected);
  });
}

for (const [address, attachment] of [
  ["10.0.3.5", { network: "static", ipv4: "10.0.3.5", ipv6: undefined, mac: undefined }],
  ["fd00::5", { network: "static", ipv4: undefined, ipv6: "fd00::5", mac: undefined }],
] as const) {
  t.test(`a static container at ${address} has that address and no process`, async (t) => {
    const one = staticContainer(address, { name: "vm-1", alias: "db" });
    t.same(one.attachments, [attachment]);
    t.match(one, { id: `static:${address}`, name: "vm-1", staticAlias: "db", pid: 0, source: "static" });
    t.notOk("staticAlias" in staticContainer(address, { name: "vm-1" }));
  });
}
