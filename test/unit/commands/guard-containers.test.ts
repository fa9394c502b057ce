import t from "tap";
import { GuardedContainers, lockTargetOf } from "../../../src/commands/guard-containers.ts";
import type { Container } from "../../../src/containers/container.ts";
import { Directory } from "../../../src/containers/directory.ts";
import type { Change } from "../../../src/engine/connection.ts";
import type { LockTarget, Protection } from "../../../src/firewall/port-lock.ts";
import { container } from "../guard/fixture.ts";

const docker = "unix:///run/docker.sock";
const second = "unix:///var/run/docker.sock";

function fixture() {
  const directory = new Directory();
  const targets = new Map<string, LockTarget>();
  const protections = new Map<string, Protection>();
  const sent: string[] = [];
  const containers = new GuardedContainers({
    directory,
    hosts: [docker, second],
    lock: {
      set: (id, target) => void targets.set(id, target),
      delete: (id) => void targets.delete(id),
      protectionOf: (id) => protections.get(id) ?? { locked: false, reason: "the lock is being made" },
    },
    publisher: {
      container: ({ owner, container: { name, pid }, protection }) =>
        void sent.push(`${owner} ${name} ${pid} ${protection.locked} ${protection.reason}`.trim()),
      gone: (owner, id) => void sent.push(`${owner} ${id.slice(0, 1)} gone`),
    },
    log: { debug() {}, info() {}, warn() {}, error() {} },
  });
  const change = (kind: Change["kind"], one: Container, owner = docker) => {
    if (kind === "gone") directory.remove(owner, one.id);
    else directory.upsert(owner, one);
    containers.onChange({ kind, container: one }, owner);
  };
  return { directory, targets, protections, sent, containers, change };
}

t.test("a start is published at once, and again when its lock is in force", async (t) => {
  const { change, containers, protections, sent, targets } = fixture();
  const one = container("a", 2);
  const { pidStartedAt: _, ...starting } = { ...one, pid: 0 };
  change("appeared", starting);
  change("started", one);
  t.match(targets.get(one.id), { addresses: ["172.17.0.2"], macs: ["02:42:ac:11:00:02"], pid: 102 });
  protections.set(one.id, { locked: true });
  containers.onProtection([one.id]);
  change("gone", one);
  containers.onProtection([one.id]);
  t.same(sent, [
    `${docker} ca 0 false the lock is being made`,
    `${docker} ca 102 false the lock is being made`,
    `${docker} ca 102 true`,
    `${docker} a gone`,
  ]);
  t.equal(targets.size, 0);
});

t.test("a container of one engine under two names stays locked until both have seen its end", async (t) => {
  const { change, sent, targets } = fixture();
  const one = container("a", 2);
  change("started", one, docker);
  change("started", one, second);
  change("gone", one, docker);
  t.equal(targets.size, 1);
  change("gone", one, second);
  t.equal(targets.size, 0);
  t.equal(sent.length, 4);
});

t.test("the state that is read while a container ends does not bring it back", async (t) => {
  const { change, containers } = fixture();
  change("started", container("a", 2));
  change("started", container("b", 3));
  const names: string[] = [];
  for (const { container: one } of containers.published()) {
    names.push(one.name);
    if (one.name === "ca") change("gone", container("b", 3));
  }
  t.same(names, ["ca"]);
});

t.test("the counts are of containers, and of those that are locked", async (t) => {
  const { change, containers, protections } = fixture();
  change("started", container("a", 2));
  change("started", container("b", 3));
  protections.set("b".repeat(64), { locked: true });
  t.same(containers.counts(), { containers: 2, locked: 1 });
});

const at = (ipv4: string | undefined, ipv6: string | undefined, mac: string | undefined) => ({
  network: "n",
  ipv4,
  ipv6,
  mac,
});
const targets: readonly (readonly [string, Container["attachments"], Partial<LockTarget>])[] = [
  [
    "both families on two networks",
    [at("172.17.0.2", "fd00::2", "02:00:00:00:00:01"), at("172.18.0.2", undefined, "02:00:00:00:00:02")],
    {
      addresses: ["172.17.0.2", "fd00::2", "172.18.0.2"],
      macs: ["02:00:00:00:00:01", "02:00:00:00:00:02"],
      obstacle: undefined,
    },
  ],
  ["no network", [], { addresses: [], macs: [], obstacle: undefined }],
  ["the host's network", [at(undefined, undefined, undefined)], { addresses: [], obstacle: undefined }],
];
for (const [what, attachments, expected] of targets)
  t.test(`what is locked of a container with ${what}`, async (t) => {
    t.match(lockTargetOf(container("a", 2, { attachments })), expected);
  });

t.test("without a hardware address, the lock of an address is not complete", async (t) => {
  const attachments = [
    at("172.17.0.2", undefined, "02:00:00:00:00:01"),
    at("10.0.0.1", undefined, undefined),
  ];
  t.match(lockTargetOf(container("a", 2, { attachments })).obstacle, /hardware address/);
});
