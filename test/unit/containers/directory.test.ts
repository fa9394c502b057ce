import t from "tap";
import { type Container, staticContainer } from "../../../src/containers/container.ts";
import { Directory } from "../../../src/containers/directory.ts";

function container(name: string, addresses: readonly string[], pid = 100): Container {
  return {
    id: Buffer.from(name).toString("hex").padEnd(64, "0"),
    name,
    image: "app:1",
    imageId: "",
    labels: {},
    env: {},
    user: "",
    attachments: addresses.map((address, index) => ({
      network: `net${index}`,
      ipv4: address.includes(":") ? undefined : address,
      ipv6: address.includes(":") ? address : undefined,
      mac: undefined,
    })),
    pid,
    risks: [],
    source: "engine",
  };
}

const docker = "unix:///docker.sock";
const podman = "unix:///podman.sock";

t.test("a container is found at each of its addresses, and at none that it has left", async (t) => {
  const directory = new Directory();
  directory.upsert(docker, container("web", ["172.17.0.2", "fd00::2"]));
  t.match(directory.at("172.17.0.2"), { kind: "container", container: { name: "web" } });
  t.match(directory.at("fd00::2"), { kind: "container", container: { name: "web" } });
  directory.upsert(docker, container("web", ["172.18.0.2"]));
  t.same(directory.at("172.17.0.2"), { kind: "unknown" });
  t.same(directory.at("fd00::2"), { kind: "unknown" });
  t.match(directory.at("172.18.0.2"), { kind: "container" });
});

t.test("a lookup returns the same object until the entry changes", async (t) => {
  const directory = new Directory();
  directory.upsert(docker, container("web", ["172.17.0.2"]));
  const before = directory.at("172.17.0.2");
  t.notOk(directory.upsert(docker, container("web", ["172.17.0.2"])), "an equal container changes nothing");
  directory.upsert(docker, container("other", ["172.17.0.3"]));
  t.equal(directory.at("172.17.0.2"), before);
  t.ok(directory.upsert(docker, container("web", ["172.17.0.2"], 200)));
  t.not(directory.at("172.17.0.2"), before, "another process is another entry");
  t.equal(directory.at("10.0.0.1"), directory.at("10.0.0.2"), "unknown is one object");
});

t.test("a container with another hardware address is another entry", async (t) => {
  const directory = new Directory();
  const attachment = { network: "bridge", ipv4: "172.17.0.2", ipv6: undefined };
  const at = (mac: string) => ({ ...container("web", []), attachments: [{ ...attachment, mac }] });
  t.ok(directory.upsert(docker, at("02:42:ac:11:00:02")));
  t.notOk(directory.upsert(docker, at("02:42:ac:11:00:02")), "an equal one changes nothing");
  t.ok(directory.upsert(docker, at("02:42:ac:11:00:03")));
});

t.test("two containers with one address are a conflict until one of them is gone", async (t) => {
  const directory = new Directory();
  directory.upsert(docker, container("old", ["172.17.0.2"]));
  directory.upsert(docker, container("new", ["172.17.0.2", "172.18.0.9"]));
  const lookup = directory.at("172.17.0.2");
  t.equal(lookup.kind, "conflict");
  t.same(lookup.kind === "conflict" && lookup.containers.map(({ name }) => name), ["old", "new"]);
  t.match(directory.at("172.18.0.9"), { kind: "container" }, "an address that only one has is served");
  directory.remove(docker, container("old", []).id);
  t.match(directory.at("172.17.0.2"), { kind: "container", container: { name: "new" } });
});

t.test("a removal removes only the entry with its id, whoever has the address by now", async (t) => {
  const directory = new Directory();
  directory.upsert(docker, container("new", ["172.17.0.2"]));
  t.equal(directory.remove(docker, container("old", []).id), undefined);
  t.match(directory.at("172.17.0.2"), { container: { name: "new" } });
});

t.test(
  "an address on two engines is a conflict; removing the containers of one leaves the other's",
  async (t) => {
    const directory = new Directory();
    directory.upsert(docker, container("a", ["10.88.0.2"]));
    directory.upsert(podman, container("b", ["10.88.0.2", "10.88.0.3"]));
    t.equal(directory.at("10.88.0.2").kind, "conflict");
    for (const id of [...directory.owned(docker).keys()]) directory.remove(docker, id);
    t.match(directory.at("10.88.0.2"), { container: { name: "b" } });
    t.match(directory.at("10.88.0.3"), { container: { name: "b" } });
  },
);

t.test("one engine under two names is not a conflict", async (t) => {
  const directory = new Directory();
  directory.upsert("unix:///run/docker.sock", container("web", ["172.17.0.2"]));
  directory.upsert("unix:///var/run/docker.sock", container("web", ["172.17.0.2"]));
  t.equal(directory.at("172.17.0.2").kind, "container");
});

t.test("static containers are declared, replaced on reload, and can conflict with a real one", async (t) => {
  const directory = new Directory({ statics: [staticContainer("10.0.3.5", { name: "vm-1", alias: "db" })] });
  const before = directory.at("10.0.3.5");
  t.match(before, {
    container: { id: "static:10.0.3.5", name: "vm-1", staticAlias: "db", source: "static" },
  });
  directory.setStatics([
    staticContainer("10.0.3.5", { name: "vm-1", alias: "db" }),
    staticContainer("fd00::5", { name: "vm-2" }),
  ]);
  t.equal(directory.at("10.0.3.5"), before, "an equal one keeps its entry");
  t.match(directory.at("fd00::5"), { container: { attachments: [{ ipv6: "fd00::5" }] } });
  directory.upsert(docker, container("web", ["10.0.3.5"]));
  t.equal(directory.at("10.0.3.5").kind, "conflict");
  directory.setStatics([]);
  t.match(directory.at("10.0.3.5"), { container: { name: "web" } });
  t.equal(directory.at("fd00::5").kind, "unknown");
});

t.test(
  "a waiting caller gets its answer when the container's process is known, not when it is only announced",
  async (t) => {
    const directory = new Directory();
    const waiting = directory.waitFor("172.17.0.2", 10_000);
    directory.upsert(docker, container("web", ["172.17.0.2"], 0));
    directory.upsert(docker, container("web", ["172.17.0.2"], 42));
    t.match(await waiting, { kind: "container", container: { pid: 42 } });
  },
);

t.test("a waiting caller gets its answer when a conflict is over", async (t) => {
  const directory = new Directory();
  directory.upsert(docker, container("old", ["172.17.0.2"]));
  directory.upsert(docker, container("new", ["172.17.0.2"]));
  const waiting = directory.waitFor("172.17.0.2", 10_000);
  directory.remove(docker, container("old", []).id);
  t.match(await waiting, { kind: "container", container: { name: "new" } });
});

t.test("waiting ends after the timeout with what is there then", async (t) => {
  const directory = new Directory();
  t.same(await directory.waitFor("172.17.0.2", 5), { kind: "unknown" });
  directory.upsert(docker, container("web", ["172.17.0.2"], 0));
  t.match(await directory.waitFor("172.17.0.2", 5), { kind: "container", container: { pid: 0 } });
});

t.test(
  "at most 64 callers wait for one address; the next one gets that answer, and none about who has it",
  async (t) => {
    const directory = new Directory();
    const addresses = Array.from({ length: 17 }, (_, index) => `10.0.${index}.1`);
    const all = addresses.flatMap((address) =>
      Array.from({ length: 64 }, () => directory.waitFor(address, 60_000)),
    );
    t.equal(await directory.waitFor("10.0.0.1", 60_000), "full");
    const other = directory.waitFor("10.9.9.9", 60_000);
    directory.upsert(docker, container("web", ["10.9.9.9"]));
    t.match(await other, { kind: "container" }, "waiters for other addresses do not count");
    directory.upsert(docker, container("first", addresses));
    await Promise.all(all);
    directory.remove(docker, container("first", []).id);
    const again = directory.waitFor("10.0.0.1", 60_000);
    directory.upsert(docker, container("late", ["10.0.0.1"]));
    t.match(await again, { kind: "container" }, "their places are free again");
  },
);

t.test("a container is found by name, by id and by a prefix of an id", async (t) => {
  const directory = new Directory();
  const web = container("web", ["172.17.0.2"]);
  directory.upsert(docker, web);
  directory.upsert(docker, container("web2", ["172.17.0.3"]));
  const names = (found: readonly Container[]) => found.map(({ name }) => name);
  t.same(names(directory.byId("web")), ["web"]);
  t.same(names(directory.byId(web.id)), ["web"]);
  t.same(names(directory.byId(web.id.slice(0, 6))), ["web", "web2"]);
  t.same(directory.byId("nobody"), []);
  t.same(directory.byId(""), []);
});
