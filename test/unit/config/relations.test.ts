import { join } from "node:path";
import t from "tap";
import { configuration } from "../../../src/commands/configuration.ts";
import { parseConfig } from "../../../src/config/load.ts";
import { type OperatorError, report } from "../../../src/errors.ts";
import { problemsIn, role } from "./fixture.ts";

const badArn = "arn:aws:iam::12:role/db";

function where(value: unknown): readonly string[] {
  const found = parseConfig(typeof value === "string" ? value : JSON.stringify(value), "f");
  return found.ok ? [] : found.problems.map(({ where }) => where.replace(/^f:1: /, "")).sort();
}

const cases: readonly [string, unknown, readonly string[]][] = [
  [
    "a bad ARN and an unknown default alias",
    { aliasToARN: { db: badArn }, defaultAlias: "web" },
    ["aliasToARN.db", "defaultAlias"],
  ],
  [
    "an alias with a bad ARN is defined",
    { aliasToARN: { db: badArn }, defaultAlias: "db" },
    ["aliasToARN.db"],
  ],
  ["an alias that is no object is defined", { aliases: { db: 7 }, defaultAlias: "db" }, ["aliases.db"]],
  ["aliases in a list: which there are is not known", { aliasToARN: [], defaultAlias: "db" }, ["aliasToARN"]],
  [
    "aliases under a misspelt key are aliases",
    { aliasToArns: { db: role }, defaultAlias: "db" },
    ["aliasToArns"],
  ],
  ["an alias under a bad name is written", { aliasToARN: { "arn:x": role } }, ["aliasToARN.arn:x"]],
  [
    "a bad key and the value under it",
    { aliasToARN: { "arn:x": badArn }, staticContainers: { vm: { name: "" } } },
    ["aliasToARN.arn:x", "aliasToARN.arn:x", "staticContainers.vm", "staticContainers.vm.name"],
  ],
  ["a default alias of the wrong type is said once", { defaultAlias: 7 }, ["defaultAlias"]],
  ["a default alias that is none is said once", { defaultAlias: "arn:aws" }, ["defaultAlias"]],
  [
    "a static container's alias beside its bad name",
    { staticContainers: { "10.0.0.5": { name: "", alias: "x" } }, listen: "x" },
    ["listen", "staticContainers.10.0.0.5.alias", "staticContainers.10.0.0.5.name"],
  ],
  [
    "an alias defined twice, with a bad ARN in each",
    { aliasToARN: { db: badArn }, aliases: { db: { roleArn: badArn } } },
    ["aliasToARN.db", "aliases.db", "aliases.db.roleArn"],
  ],
  [
    "both kinds of hosts, one of them unreadable",
    { dockerHost: 7, dockerHosts: [8] },
    ["dockerHost", "dockerHosts", "dockerHosts.0"],
  ],
  [
    "a key twice beside other mistakes",
    `{"listn":1,"verbose":true,"verbose":false,"defaultAlias":"x"}`,
    ["defaultAlias", "listn", "verbose"],
  ],
  [
    "a section twice: the aliases of both are defined",
    `{"aliasToARN":{"db":"${role}"},"aliasToARN":{"web":"${role}"},"defaultAlias":"db"}`,
    ["aliasToARN"],
  ],
  [
    "tags that are too many and alike, beside a bad key",
    {
      aliases: {
        a: {
          roleArn: role,
          tags: {
            "aws:x": "1",
            Team: "a",
            team: "b",
            ...Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`t${i}`, ""])),
          },
        },
      },
    },
    ["aliases.a.tags", "aliases.a.tags", "aliases.a.tags.aws:x"],
  ],
  [
    "aliases called like members of every object",
    { aliasToARN: { constructor: role }, defaultAlias: "toString" },
    ["defaultAlias"],
  ],
  [
    "an alias called like a member of every object, in one section only",
    {
      aliases: { constructor: { roleArn: role }, hasOwnProperty: { roleArn: role } },
      aliasToARN: { toString: role },
    },
    [],
  ],
  [
    "an endpoint of STS beside what chooses another",
    { sts: { endpoint: "https://sts.example", useFips: true, useDualstack: true } },
    ["sts.useDualstack", "sts.useFips"],
  ],
  [
    "an endpoint of STS alone, and a choice alone",
    { sts: { endpoint: "https://sts.example", useFips: false } },
    [],
  ],
  ["all services on one port", on(":1", ":1", ":1"), ["containerCredentials.listen", "metricsListen"]],
  ["the default port, which is not written", on(undefined, ":18000"), ["containerCredentials.listen"]],
  [
    "one address in two spellings",
    on("127.0.0.1:1", "[::ffff:127.0.0.1]:1"),
    ["containerCredentials.listen"],
  ],
  ["an address and all of its family", on("0.0.0.0:1", ":2", "127.0.0.1:1"), ["metricsListen"]],
  ["an address and all of both families", on("127.0.0.1:1", ":2", "[::]:1"), ["metricsListen"]],
  ["one port at different addresses", on("10.0.0.1:1", "127.0.0.1:1", "[::1]:1"), []],
  ["all of IPv4 and an address of IPv6", on("0.0.0.0:1", "[::1]:1"), []],
  ["different ports", on(undefined, ":1", ":2"), []],
];

function on(listen: string | undefined, credentials: string, metricsListen?: string) {
  return { listen, containerCredentials: { listen: credentials }, metricsListen };
}

for (const [name, value, expected] of cases) {
  t.test(name, (t) => {
    t.same(where(value), expected.toSorted());
    t.end();
  });
}

const messages: readonly [string, string | object, RegExp][] = [
  [
    "a default alias that is not defined",
    { defaultAlias: "dv", aliasToARN: { db: role } },
    /defaultAlias: expected an alias.*\|Did you mean "db"/,
  ],
  ["a default alias without any alias", { defaultAlias: "db" }, /Define it in aliasToARN/],
  [
    "an alias defined twice",
    { aliasToARN: { db: role }, aliases: { db: { roleArn: role } } },
    /aliases\.db: the alias "db" is defined in aliasToARN too/,
  ],
  [
    "a static container of no alias",
    { staticContainers: { "10.0.0.5": { name: "vm", alias: "x" } } },
    /staticContainers\.10\.0\.0\.5\.alias/,
  ],
  ["both dockerHost and dockerHosts", { dockerHost: "/a", dockerHosts: ["/b"] }, /dockerHost is set too/],
];

for (const [name, text, expected] of messages) {
  t.test(`${name} is one problem with a matching message`, (t) => {
    const found = problemsIn(text);
    t.equal(found.length, 1, found.join("\n"));
    t.match(found[0], expected);
    t.end();
  });
}

for (const [one, other, canonical] of [
  ["::1", "0:0:0:0:0:0:0:1", "::1"],
  ["10.0.0.5", "::ffff:10.0.0.5", "10.0.0.5"],
  ["FD00::A", "fd00::a", "fd00::a"],
] as const) {
  t.test(`${one} and ${other} are the same address: a problem that names both`, (t) => {
    const statics = { [one]: { name: "vm" }, [other]: { name: "vm" } };
    const parsed = parseConfig(JSON.stringify({ staticContainers: statics }), "config.json");
    t.same(parsed.ok ? [] : parsed.problems, [
      {
        where: `config.json:1: staticContainers.${other}`,
        message: `"${other}" is the same address as "${one}"`,
        hint: `Keep only one, written "${canonical}".`,
      },
    ]);
    t.end();
  });
}

/** What a command says that reads this file with these flags. */
async function said(path: string, overrides: Parameters<typeof configuration>[1]) {
  const error = (await configuration(path, overrides)
    .read()
    .catch((error: unknown) => error)) as OperatorError; // each case is refused
  return { text: report(error), code: error.exitCode };
}

t.test("what the commands check is checked although the schema rejects something", async (t) => {
  const file = {
    sessionName: "{nme}",
    aliases: { a: { roleArn: badArn, sessionName: "{", sourceIdentity: "}", tags: { k: "{x}" } } },
    passthrough: { allow: ["iam", "UPPER"] },
    dockerHosts: ["unix:///run/docker.sock", `unix:///${"x".repeat(200)}`],
  };
  const path = join(t.testdir({ "config.json": JSON.stringify(file) }), "config.json");
  const { text, code } = await said(path, {});
  t.equal(code, 78);
  t.match(text, /has 8 problems/);
  for (const place of [
    "sessionName: expected a template",
    "aliases.a.roleArn: expected a role ARN",
    "aliases.a.sessionName: expected a template",
    "aliases.a.sourceIdentity: expected a template",
    "aliases.a.tags.k: expected a template",
    "passthrough.allow.0: iam holds credentials",
    "passthrough.allow.1: expected a metadata category",
    "dockerHosts.1: dockerHost: cannot use",
  ]) {
    t.match(text, `:1: ${place}`);
  }
});

t.test("mistakes in the file and in the flags come together", async (t) => {
  const folder = t.testdir({
    "bad.json": '{"listn":1}',
    "good.json": `{"dockerHosts":["/a"],"aliases":{"default-iam-role":{"roleArn":"${role}"}}}`,
    "empty.json": "",
  });
  const flags = {
    listen: ":x",
    defaultRoleArn: badArn,
    defaultPolicy: "{",
    metadataEndpoint: "x",
    dockerHost: "x",
  };
  const both = await said(join(folder, "bad.json"), flags);
  t.equal(both.code, 78);
  for (const line of [/bad\.json:1: listn: unknown key/, ...flagLines]) t.match(both.text, line);
  t.match(both.text, /has 6 problems/);
  const alone = await said(join(folder, "good.json"), flags);
  t.equal(alone.code, 64);
  for (const line of flagLines) t.match(alone.text, line);
  const empty = await said(join(folder, "empty.json"), flags);
  t.match(empty.text, /the file is empty/);
  t.match(empty.text, flagLines[0]);
  const together = await said(join(folder, "good.json"), { dockerHost: "/b", defaultRoleArn: role });
  t.equal(together.code, 64);
  t.match(together.text, /the flags with .*good\.json:1: dockerHosts: dockerHost is set too/);
  t.match(
    together.text,
    /aliases\.default-iam-role: the alias "default-iam-role" is defined in aliasToARN too/,
  );
});

const flagLines = [
  /--server: expected :PORT/,
  /--default-iam-role: expected a role ARN/,
  /--default-iam-policy: expected a policy/,
  /--metadata-url: expected an http/,
  /--docker-endpoint: expected unix/,
];

function record<Value>(length: number, member: (index: number) => readonly [string, Value]) {
  return Object.fromEntries(Array.from({ length }, (_, index) => member(index)));
}

const large: readonly [string, unknown, number][] = [
  ["tags", { aliases: record(16_000, (i) => [`a${i}`, { roleArn: role, tags: {} }]) }, 0],
  [
    "tags with keys alike",
    { aliases: record(8_000, (i) => [`a${i}`, { roleArn: role, tags: { k: "", K: "" } }]) },
    8_000,
  ],
  [
    "static addresses of unknown aliases",
    {
      aliasToARN: record(7_000, (i) => [`al${i}`, role]),
      staticContainers: record(12_000, (i) => [`10.0.${i >> 8}.${i & 255}`, { name: "n", alias: `zz${i}` }]),
    },
    12_000,
  ],
  [
    "two long names that are nearly one",
    { aliasToARN: { [`a${"x".repeat(300_000)}`]: role }, defaultAlias: `b${"x".repeat(299_999)}c` },
    2,
  ],
];
for (const [name, value, problems] of large) {
  t.test(`a file of 1 MiB is checked in seconds: ${name}`, (t) => {
    const text = JSON.stringify(value);
    const started = performance.now();
    const found = parseConfig(text, "f");
    const seconds = (performance.now() - started) / 1000;
    t.equal(found.ok ? 0 : found.problems.length, problems);
    t.ok(seconds < 10, `${seconds.toFixed(1)} s`);
    t.end();
  });
}
