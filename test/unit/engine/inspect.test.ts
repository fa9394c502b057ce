import { readdirSync, readFileSync } from "node:fs";
import t from "tap";
import type { Container } from "../../../src/containers/container.ts";
import { readInspect } from "../../../src/engine/inspect.ts";

const fixtures = new URL("../../fixtures/engine/", import.meta.url);
const engines = readdirSync(fixtures).filter((name) => !name.endsWith(".md"));
const read = (engine: string, name: string): unknown =>
  JSON.parse(readFileSync(new URL(`${engine}/${name}.json`, fixtures), "utf8"));
// Each test changes its own copy.
// biome-ignore lint/suspicious/noExplicitAny: a recorded answer that the test bends at will
const copy = (name = "inspect-running") => read("docker-20.10-api-1.41", name) as any;
const idOf = (inspect: unknown) => (inspect as { Id: string }).Id; // every recording has one

/** In the recordings. Docker 26 derives it from the address, Podman makes a random one. */
const macOfRunning: Readonly<Record<string, string>> = {
  "docker-20.10-api-1.41": "02:42:ac:1e:00:02",
  "docker-26.1-api-1.45": "02:42:ac:1e:00:02",
  "docker-29-api-1.52-by-changelog": "02:42:ac:1e:00:02",
  "podman-4.3": "02:be:67:4e:d0:c5",
  "podman-5.4": "92:d6:6f:46:f0:d3",
};

/** The container, or undefined if it does not run. */
function runningContainer(answer: unknown): Container | undefined {
  const { container, running } = readInspect(answer);
  return running ? container : undefined;
}

t.ok(engines.length >= 5, "there are recordings");

for (const engine of engines) {
  const image = engine.startsWith("podman") ? "localhost/bb:latest" : "bb";

  t.test(`${engine}: a running container has all that decides about its role`, async (t) => {
    const inspect = read(engine, "inspect-running");
    const container = runningContainer(inspect);
    t.match(container, {
      id: idOf(inspect),
      name: "web2",
      image,
      imageId: /^sha256:[0-9a-f]{64}$/,
      env: { IAM_ROLE: "arn:aws:iam::123456789012:role/containers/web", IAM_POLICY: "" },
      user: "1000:1000",
      attachments: [
        { network: "app_default", ipv4: "172.30.0.2", ipv6: "fd00:1::2", mac: macOfRunning[engine] },
      ],
      source: "engine",
    });
    t.equal(container?.labels["ec2metaproxy.RoleAlias"], "web");
    t.same(container?.risks, ["docker-socket", "net-admin"]);
    t.ok((container?.pid ?? 0) > 0);
    t.notMatch(JSON.stringify(container), "secret", "no other variable is kept");
  });

  t.test(`${engine}: a paused container keeps its addresses on both of its networks`, async (t) => {
    const container = runningContainer(read(engine, "inspect-paused"));
    const networks = container?.attachments.map(({ network, ipv4 }) => ({
      network,
      hasIpv4: ipv4 !== undefined,
    }));
    t.same(networks, [
      { network: "app_default", hasIpv4: true },
      { network: "second", hasIpv4: true },
    ]);
  });

  t.test(`${engine}: a container that shares another's network has no address of its own`, async (t) => {
    t.same(runningContainer(read(engine, "inspect-shares-network"))?.attachments, []);
  });

  t.test(`${engine}: a container on the host's network has no address, and has that risk`, async (t) => {
    const container = runningContainer(read(engine, "inspect-host-network"));
    t.same(
      container?.attachments.filter(({ ipv4, ipv6 }) => ipv4 ?? ipv6),
      [],
    );
    t.ok(container?.risks.includes("host-network"));
  });

  for (const name of ["inspect-created", "inspect-exited"]) {
    t.test(`${engine}: ${name} is not a running container, but its labels are known`, async (t) => {
      t.equal(runningContainer(read(engine, name)), undefined);
      const { container, running } = readInspect(read(engine, name));
      t.match({ container, running }, { running: false, container: { pid: 0, image } });
      t.same(
        container.attachments.map(({ mac }) => mac),
        container.attachments.map(() => undefined),
        "an interface that does not exist has no hardware address",
      );
    });
  }
}

const risky: ReadonlyArray<
  readonly [string, (inspect: ReturnType<typeof copy>) => void, Container["risks"]]
> = [
  ["privileged", (it) => Object.assign(it.HostConfig, { Privileged: true }), ["privileged"]],
  ["--pid host", (it) => Object.assign(it.HostConfig, { PidMode: "host" }), ["host-pid"]],
  [
    "all capabilities",
    (it) => Object.assign(it.HostConfig, { CapAdd: ["ALL"] }),
    ["net-admin", "net-raw-added"],
  ],
  [
    "CAP_NET_RAW by its long name",
    (it) => Object.assign(it.HostConfig, { CapAdd: ["cap_net_raw"] }),
    ["net-raw-added"],
  ],
  ["the engine's socket", (it) => it.Mounts.push({ Source: "/var/run/docker.sock" }), ["docker-socket"]],
  [
    "Podman's socket",
    (it) => it.Mounts.push({ Source: "/run/user/0/podman/podman.sock" }),
    ["docker-socket"],
  ],
  ["the whole disk", (it) => it.Mounts.push({ Source: "/" }), ["docker-socket"]],
  ["/run/ with a slash", (it) => it.Mounts.push({ Source: "/run/" }), ["docker-socket"]],
  [
    "a bind that is not mounted yet",
    (it) => Object.assign(it.HostConfig, { Binds: ["/run:/r:ro"] }),
    ["docker-socket"],
  ],
  ["a volume", (it) => it.Mounts.push({ Source: "/var/lib/docker/volumes/x/_data" }), []],
  ["a directory with a similar name", (it) => it.Mounts.push({ Source: "/var/running" }), []],
];
for (const [what, bend, expected] of risky) {
  t.test(`risks: ${what}`, async (t) => {
    const inspect = copy();
    Object.assign(inspect, { Mounts: [] });
    Object.assign(inspect.HostConfig, { CapAdd: null, Binds: null });
    bend(inspect);
    t.same(runningContainer(inspect)?.risks, expected);
  });
}

const malformed: ReadonlyArray<readonly [string, (inspect: ReturnType<typeof copy>) => void, RegExp]> = [
  ["a short id", (it) => Object.assign(it, { Id: "abc" }), /Id: expected 64 hex digits/],
  ["no Config", (it) => Object.assign(it, { Config: null }), /Config: expected an object, got null/],
  [
    "labels that are a list",
    (it) => Object.assign(it.Config, { Labels: [] }),
    /Config.Labels: expected an object, got a list/,
  ],
  [
    "a label that is a number",
    (it) => Object.assign(it.Config, { Labels: { n: 1 } }),
    /Config.Labels.n: expected a string/,
  ],
  [
    "variables that are an object",
    (it) => Object.assign(it.Config, { Env: {} }),
    /Config.Env: expected a list/,
  ],
  ["a negative pid", (it) => Object.assign(it.State, { Pid: -1 }), /State.Pid/],
  ["a pid that is a string", (it) => Object.assign(it.State, { Pid: "1" }), /State.Pid/],
  [
    "no NetworkSettings",
    (it) => Object.assign(it, { NetworkSettings: undefined }),
    /NetworkSettings: expected an object/,
  ],
  ["no HostConfig", (it) => Object.assign(it, { HostConfig: undefined }), /HostConfig: expected an object/],
];
for (const [what, bend, expected] of malformed) {
  t.test(`malformed: ${what} is rejected, and the message does not contain the value`, async (t) => {
    const inspect = copy();
    bend(inspect);
    t.throws(() => runningContainer(inspect), expected);
  });
}
for (const answer of [null, undefined, "x", 1, [], {}]) {
  t.test(`malformed: ${JSON.stringify(answer)} is not a container`, async (t) => {
    t.throws(() => runningContainer(answer), /reading the engine's answer/);
  });
}

t.test(
  "labels are null for a Podman container without any, and a label may have the name of an object property",
  async (t) => {
    const inspect = copy();
    inspect.Config.Labels = null;
    t.same(Object.keys(runningContainer(inspect)?.labels ?? { none: 1 }), []);
    inspect.Config.Labels = JSON.parse('{"__proto__":"x","constructor":"y"}');
    t.same(Object.keys(runningContainer(inspect)?.labels ?? {}), ["__proto__", "constructor"]);
  },
);

t.test("the first of two variables of one name counts, as in the container", async (t) => {
  const inspect = copy();
  inspect.Config.Env = ["IAM_ROLE=a", "IAM_ROLE=b", "IAM_ROLES=c", "XIAM_POLICY=d"];
  t.same(runningContainer(inspect)?.env, { IAM_ROLE: "a" });
});

t.test("between Podman's init and start the process is already known", async (t) => {
  const inspect = copy();
  Object.assign(inspect.State, { Status: "initialized", Running: false, Pid: 77 });
  t.equal(runningContainer(inspect)?.pid, 77);
});

for (const flag of ["Restarting", "Dead"]) {
  t.test(`a container whose state is ${flag} does not run`, async (t) => {
    const inspect = copy();
    inspect.State[flag] = true;
    t.equal(runningContainer(inspect), undefined);
  });
}
