import t from "tap";
import type { Container } from "../../../src/containers/container.ts";
import { differences, isAsListed } from "../../../src/engine/comparison.ts";

function container(id: string, changed: Partial<Container> = {}): Container {
  return {
    id,
    name: id,
    image: "app:1",
    imageId: "",
    labels: {},
    env: {},
    user: "",
    attachments: [{ network: "bridge", ipv4: "172.17.0.2", ipv6: "fd00::2", mac: undefined }],
    pid: 100,
    risks: [],
    source: "engine",
    ...changed,
  };
}

const listed = (id: string, ...addresses: string[]) => ({ id, name: id, addresses });
const a = container("a");

const cases = [
  ["the same containers on both sides", ["a"], ["a"], [a], [], { gone: [], toInspect: [], withoutEvent: 0 }],
  ["a listed container that differs", ["a"], [], [a], [], { gone: [], toInspect: ["a"], withoutEvent: 0 }],
  ["a new container", ["a"], [], [], [], { gone: [], toInspect: ["a"], withoutEvent: 1 }],
  ["a new container with an event", ["a"], [], [], ["a"], { gone: [], toInspect: ["a"], withoutEvent: 0 }],
  ["a container that is not listed", [], [], [a], [], { gone: ["a"], toInspect: [], withoutEvent: 1 }],
  ["one that is not listed, with an event", [], [], [a], ["a"], { gone: [], toInspect: [], withoutEvent: 0 }],
  [
    "a starting container, which is never listed",
    [],
    [],
    [container("a", { pid: 0 })],
    [],
    { gone: [], toInspect: ["a"], withoutEvent: 0 },
  ],
] as const;
for (const [what, ids, unchanged, owned, changed, expected] of cases) {
  t.test(`${what}: ${JSON.stringify(expected)}`, async (t) => {
    const found = differences({
      listed: ids.map((id) => listed(id, "172.17.0.2")),
      unchanged: new Set(unchanged),
      owned: new Map(owned.map((one) => [one.id, one])),
      changed: new Set(changed),
    });
    t.same(found, expected);
  });
}

const gateway = { network: "docker_gwbridge", ipv4: "172.19.0.3", ipv6: undefined, mac: undefined };
const onGateway = container("a", { attachments: [...a.attachments, gateway] });
const entries = [
  ["the same name and addresses", a, listed("a", "172.17.0.2", "fd00::2"), undefined, true],
  ["the addresses in another order", a, listed("a", "fd00::2", "172.17.0.2"), undefined, true],
  ["another name", container("a", { name: "b" }), listed("a", "172.17.0.2", "fd00::2"), undefined, false],
  ["an address less", a, listed("a", "172.17.0.2"), undefined, false],
  ["an address more", a, listed("a", "172.17.0.2", "fd00::2", "172.18.0.2"), undefined, false],
  ["another address", a, listed("a", "172.17.0.3", "fd00::2"), undefined, false],
  ["a gateway address", onGateway, listed("a", "172.17.0.2", "fd00::2"), gateway, true],
  ["a gateway address that is gone", onGateway, listed("a", "172.17.0.2", "fd00::2"), undefined, false],
] as const;
for (const [what, entry, one, attachment, expected] of entries) {
  t.test(`a list with ${what} ${expected ? "matches" : "does not match"} the entry`, async (t) => {
    t.equal(isAsListed(entry, one, attachment), expected);
  });
}
