import { join } from "node:path";
import t, { type Test } from "tap";
import { check, type HostChecks } from "../../../src/commands/check.ts";
import type { Finding } from "../../../src/commands/finding.ts";
import { type Environment, readEnvironment } from "../../../src/config/load.ts";
import { OperatorError } from "../../../src/errors.ts";
import { EngineStandIn, idOf } from "../../support/engine/stand-in.ts";
import { hostileTexts, unsafe } from "../../support/hostile-texts.ts";
import { GivenGuard } from "../guard/fixture.ts";

const silent = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};
const roleArn = "arn:aws:iam::123456789012:role/containers/Web";
const healthy: HostChecks = {
  metadata: async () => "http://169.254.169.254 answers; instance i-0abc",
  sts: async () => "region eu-west-1; this host is arn:aws:sts::123456789012:assumed-role/host/i-0abc",
  role: async (_, alias) => `${alias}: this host may assume ${roleArn}`,
  firewall: async () => [{ ok: true, text: "nftables: table inet ec2metaproxy in place", hint: "" }],
  services: async () => [{ subject: "unit", ok: true, text: "ec2metaproxy.service: active", hint: "" }],
  probe: async () => [{ ok: true, text: "docker0: reached the proxy", hint: "" }],
};

/** What `check` prints and its exit code, for a configuration with one role. */
async function checked(
  t: Test,
  dockerHost: string,
  {
    host = healthy,
    config: more = {},
    runtimeDirectory = "/nonexistent",
    variables = {},
    environment,
    ...options
  }: Checked = {},
) {
  const config = { dockerHost, aliasToARN: { web: roleArn }, defaultAlias: "web", ...more };
  const configPath = join(t.testdir({ "config.json": JSON.stringify(config) }), "config.json");
  let printed = "";
  const code = await check(
    { configPath, configOnly: false, json: false, guard: "/nonexistent/containers.sock", ...options },
    (text) => {
      printed += text;
    },
    silent,
    () => host,
    environment ?? Promise.resolve(readEnvironment({ RUNTIME_DIRECTORY: runtimeDirectory, ...variables })),
  );
  return { code, printed };
}

type Checked = {
  host?: HostChecks;
  config?: Readonly<Record<string, unknown>>;
  /** Of the running proxy; default: none runs. */
  runtimeDirectory?: string;
  variables?: Readonly<Record<string, string>>;
  environment?: Promise<Environment>;
  guard?: string;
  json?: boolean;
  configOnly?: boolean;
  probe?: boolean;
};

t.test("a host without problems passes every check", async (t) => {
  await using engine = await EngineStandIn.listen();
  engine.run({ id: idOf("web"), name: "web", networks: { bridge: { ipv4: "172.17.0.2" } } });
  engine.networks = [{ Name: "bridge", Driver: "bridge" }];
  const { code, printed } = await checked(t, engine.socketPath);
  t.equal(code, 0);
  const lines = printed.split("\n").map((line) => line.slice(0, 20).trim());
  t.same(lines, [
    "ok    configuration",
    "ok    unit",
    "ok    engine",
    "warn  guard",
    "ok    metadata",
    "ok    sts",
    "ok    role",
    "ok    firewall",
  ]);
  t.match(printed, "1 running");
});

t.test("what is only worth knowing is a warning, not a failure", async (t) => {
  await using engine = await EngineStandIn.listen();
  engine.run({
    id: idOf("db"),
    name: "db",
    networks: { bridge: { ipv4: "172.17.0.3" } },
    labels: { "ec2metaproxy.RoleAlias": "admin" },
  });
  engine.networks = [
    { Name: "bridge", Driver: "bridge" },
    { Name: "lan", Driver: "ipvlan" },
    { Name: "taps", Driver: "macvlan" },
  ];
  const { code, printed } = await checked(t, engine.socketPath);
  t.equal(code, 0);
  const notes = printed.split("\n").filter((line) => line.startsWith("warn  containers"));
  t.equal(notes.length, 3, printed);
  t.match(notes[0], /db gets no role \(unknown-alias\)/);
  t.match(notes[1], /the network lan \(ipvlan\) puts its containers beside this host.*bridge network/);
  t.match(notes[2], /the network taps \(macvlan\)/);
});

t.test("what fails is named with what to do, for programs too, and the exit code is 1", async (t) => {
  const host: HostChecks = {
    ...healthy,
    sts: async () => {
      throw new OperatorError("no credentials", { hint: "Attach a role.", exitCode: 69 });
    },
    role: async () => {
      throw new Error("web: assuming the role", { cause: new Error("AccessDenied") });
    },
    firewall: async () => [
      { ok: false, text: "NOT IN PLACE", hint: "Run `ec2metaproxy firewall apply`." },
      { ok: undefined, text: "ufw drops requests from containers", hint: "" },
    ],
  };
  const absent = "/nonexistent/docker.sock";
  const { code, printed } = await checked(t, absent, { host, json: true });
  t.equal(code, 1);
  const findings = JSON.parse(printed) as readonly Finding[]; // printed by check
  const failed = findings.filter(({ ok }) => ok === false);
  t.same(
    failed.map(({ subject }) => subject),
    ["engine", "sts", "role", "firewall"],
  );
  for (const { hint, subject } of failed) t.not(hint, "", `${subject} says what to do`);
  t.match(failed[0]?.text, /docker\.sock.*ENOENT/);
  t.equal(failed[1]?.hint, "Attach a role.");
  t.match(failed[2]?.text, /AccessDenied/);
});

t.test("--config-only checks nothing else", async (t) => {
  const never = () => {
    throw new Error("was asked");
  };
  const host = { metadata: never, sts: never, role: never, firewall: never, services: never, probe: never };
  const { code, printed } = await checked(t, "/nonexistent/docker.sock", { host, configOnly: true });
  t.equal(code, 0);
  t.match(printed, /^ok {4}configuration .* is valid: 1 alias, default web$/);
});

for (const hostile of hostileTexts) {
  const name = `no container, network or AWS answer can print ${hostile.replace(/[^ -~]/g, "?")} raw, or a line of its own`;
  t.test(name, async (t) => {
    await using engine = await EngineStandIn.listen();
    const labels = { "ec2metaproxy.RoleAlias": hostile };
    engine.run({ id: idOf("db"), name: hostile, networks: { [hostile]: { ipv4: "172.17.0.3" } }, labels });
    engine.networks = [{ Name: hostile, Driver: "macvlan" }];
    engine.version = { ...engine.version, Version: hostile };
    const host: HostChecks = {
      metadata: async () => hostile,
      sts: async () => {
        throw new Error(hostile);
      },
      role: async () => {
        throw new OperatorError(hostile, { hint: hostile, exitCode: 69, cause: new Error(hostile) });
      },
      firewall: async () => [{ ok: false, text: hostile, hint: hostile }],
      services: async () => [{ subject: "port", ok: false, text: hostile, hint: hostile }],
      probe: async () => [{ ok: false, text: hostile, hint: hostile }],
    };
    const { printed } = await checked(t, engine.socketPath, { host, probe: true });
    t.notMatch(printed, unsafe);
    const marks = printed.split("\n").map((line) => line.slice(0, 6));
    t.same(
      marks.filter((mark) => !["ok    ", "warn  ", "FAIL  "].includes(mark)),
      [],
    );
    t.equal(marks.length, 11);
    const { printed: json } = await checked(t, engine.socketPath, { host, json: true, probe: true });
    t.notMatch(json, unsafe);
    t.equal((JSON.parse(json) as readonly Finding[]).length, 11); // printed by check
  });
}

t.test("containers that the guard does not lock are named, as the configuration judges that", async (t) => {
  await using engine = await EngineStandIn.listen();
  engine.run({ id: idOf("web"), name: "web", networks: { bridge: { ipv4: "172.17.0.2" } } });
  await using guard = await GivenGuard.listen();
  const note = await checked(t, engine.socketPath, { guard: guard.path });
  t.equal(note.code, 0);
  t.match(note.printed, /^ok {4}guard .*0 of 1 containers locked/m);
  t.match(
    note.printed,
    /^warn {2}guard .*not locked: web \(the guard does not know the container\); identified/m,
  );
  const failed = await checked(t, engine.socketPath, {
    guard: guard.path,
    config: { identityProof: "address" },
  });
  t.equal(failed.code, 1);
  t.match(failed.printed, /^FAIL {2}guard .*not locked: web .*refused with address-not-locked/m);
});

t.test("where the port is wrong, applying the rules is not advised", async (t) => {
  await using engine = await EngineStandIn.listen();
  const host: HostChecks = {
    ...healthy,
    services: async () => [{ subject: "port", ok: false, text: "nobody listens", hint: "Start it." }],
    firewall: async () => [{ ok: false, text: "NOT IN PLACE", hint: "Run `ec2metaproxy firewall apply`." }],
  };
  const { code, printed } = await checked(t, engine.socketPath, { host });
  t.equal(code, 1);
  t.match(printed, /NOT IN PLACE\. First set the port right/);
  t.notMatch(printed, "firewall apply");
});

t.test("a probe is made only on request", async (t) => {
  await using engine = await EngineStandIn.listen();
  t.notMatch((await checked(t, engine.socketPath)).printed, /^\w+ +probe/m);
  const { printed } = await checked(t, engine.socketPath, { probe: true });
  t.match(printed, /^ok {4}probe +docker0: reached the proxy$/m);
});

t.test("a misspelt label is a note with the container's name, whatever role it gets instead", async (t) => {
  await using engine = await EngineStandIn.listen();
  const networks = { bridge: { ipv4: "172.17.0.3" } };
  engine.run({ id: idOf("db"), name: "db", networks, labels: { "ec2metaproxy.rolealias": "db" } });
  const { code, printed } = await checked(t, engine.socketPath);
  t.equal(code, 0);
  t.match(
    printed,
    /^warn {2}containers +db: the label "ec2metaproxy\.rolealias" is not read: it looks like ec2metaproxy\.RoleAlias/m,
  );
});

t.test("a variable that is not read is a note", async (t) => {
  await using engine = await EngineStandIn.listen();
  const { printed } = await checked(t, engine.socketPath, { variables: { AWS_PROFILE: "x" } });
  t.match(printed, /^warn {2}environment +AWS_PROFILE is set, but ec2metaproxy does not read it\. Profiles/m);
});

t.test("the problems of the configuration and of the environment are reported together", async (t) => {
  const broken = (what: string) =>
    new OperatorError(`${what} has 1 problem`, {
      problems: [{ where: "AWS_REGION", message: "expected a region", hint: "" }],
      exitCode: 78,
      hint: `Edit ${what}.`,
    });
  const environment = Promise.reject(broken("the environment"));
  await t.rejects(checked(t, "unix:///a.sock", { environment, config: { defaultAlias: "nobody" } }), {
    exitCode: 78,
    message: /config\.json has 1 problem, and the environment has 1 problem/,
    problems: [{ where: /defaultAlias/ }, { where: "AWS_REGION" }],
    hint: /Edit .*config\.json\. Edit the environment\./,
  });
  await t.rejects(checked(t, "unix:///a.sock", { environment: Promise.reject(broken("it")) }), {
    message: "it has 1 problem",
  });
});

t.test("an engine that does not describe its containers is a failure, as it is in status", async (t) => {
  await using engine = await EngineStandIn.listen();
  engine.run({ id: idOf("web"), name: "web", networks: { bridge: { ipv4: "172.17.0.2" } } });
  engine.fault({ kind: "status", status: 500, only: /containers\/\w+\/json/ });
  const { code, printed } = await checked(t, engine.socketPath);
  t.equal(code, 1);
  t.match(printed, /^FAIL {2}engine +\S+: answers with errors: .*500.*Containers that it does not describe/m);
});
