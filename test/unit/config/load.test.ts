import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import { loadConfig, parseConfig, readEnvironment } from "../../../src/config/load.ts";
import type { Config } from "../../../src/config/schema.ts";
import { OperatorError, report } from "../../../src/errors.ts";

const role = "arn:aws:iam::123456789012:role/db";

function valid(text: string | object): Config {
  const config = parseConfig(typeof text === "string" ? text : JSON.stringify(text), "config.json");
  if (Array.isArray(config)) throw new Error(JSON.stringify(config));
  return config as Config; // Array.isArray does not narrow readonly arrays
}

function problems(text: string | object): readonly string[] {
  const found = parseConfig(typeof text === "string" ? text : JSON.stringify(text, null, 2), "config.json");
  return Array.isArray(found) ? found.map(({ where, message, hint }) => `${where}: ${message}|${hint}`) : [];
}

t.test("an empty object is a configuration that serves nobody a role, with every default filled in", (t) => {
  const config = valid("{}");
  t.equal(config.listen, ":18000");
  t.equal(config.httpTokens, "required");
  t.equal(config.identityProof, "socket");
  t.equal(config.metadataEndpoint, "http://169.254.169.254");
  t.equal(config.sessionName, "{name}-{id}");
  t.equal(config.prefetch, true);
  t.same(config.aliasToARN, {});
  t.notOk(
    config.passthrough.allow.some((category) =>
      /user-data|identity-credentials|pkcs7|signature|rsa2048|^iam/.test(category),
    ),
    "nothing secret is forwarded by default",
  );
  t.end();
});

t.test("the JSON fork's files load unchanged", (t) => {
  const readme = `{
      "defaultAlias": "default",
      "aliasToARN": {
        "default": "arn:aws:iam::000000000000:role/ProxyDefault",
        "db": "arn:aws:iam::000000000000:role/MysqlSlave"
      },
      "dockerHost": "unix:///var/run/custom-docker.sock",
      "listen": ":18000",
      "verbose": true
    }`;
  const config = valid(readme);
  t.equal(config.defaultAlias, "default");
  t.equal(config.aliasToARN.db, "arn:aws:iam::000000000000:role/MysqlSlave");
  t.equal(config.verbose, true);
  const policy = '{"Version":"2012-10-17","Statement":[]}';
  t.equal(
    valid({ defaultAlias: "d", aliasToARN: { d: role }, defaultPolicy: policy, listen: "127.0.0.1:8000" })
      .defaultPolicy,
    policy,
  );
  const unused = valid({
    defaultAlias: "d",
    aliasToARN: { d: role },
    defaultPolicy: "",
    dockerHost: "",
    listen: ":18000",
  });
  t.equal(unused.defaultPolicy, undefined, "an empty policy is no policy, as it was there");
  t.equal(unused.dockerHost, undefined, "an empty host is the default, as it was there");
  t.end();
});

t.test("five mistakes are five problems, each with line, path, value and hint", (t) => {
  const found = problems(`{
  "listn": ":18000",
  "httpTokens": "requird",
  "aliasToARN": { "db": "arn:aws:iam::12:role/db" },
  "sts": { "regoin": "eu-west-1" },
  "defaultAlias": 7
}`);
  t.same(found, [
    'config.json:2: listn: no such key|Did you mean "listen"?',
    'config.json:3: httpTokens: expected "required" or "optional", got "requird"|Did you mean "required"?',
    'config.json:4: aliasToARN.db: expected a role ARN (the account id has 2 digits, not 12), got "arn:aws:iam::12:role/db"|Meaning: arn:PARTITION:iam::ACCOUNT:role/NAME',
    'config.json:5: sts.regoin: no such key|Did you mean "region"?',
    "config.json:6: defaultAlias: expected string, got 7|Meaning: The alias of containers that ask for nothing. Without it they get no role.",
  ]);
  t.end();
});

const single: readonly [string, string | object, RegExp][] = [
  ["an empty file", "", /the file is empty/],
  ["white space only", " \n\t", /the file is empty/],
  [
    "a trailing comma in an object",
    '{\n "verbose": true,\n}',
    /^config\.json:3: expected JSON, found "}".*\|.*delete the comma/,
  ],
  [
    "a trailing comma in a list",
    '{\n "allowRoleArns": [],\n "refuse": ["privileged",]\n}',
    /^config\.json:3: expected JSON.*\|.*delete the comma/,
  ],
  ["a comment", '{\n // hello\n "verbose": true\n}', /^config\.json:2: .*no comments/],
  ["a missing comma", '{\n "verbose": true\n "listen": ":1"\n}', /^config\.json:3: .*comma/],
  ["an end in the middle", '{\n "verbose": true', /the end of the text/],
  ["a second object", "{} {}", /Something follows/],
  ["an array", "[]", /\(whole file\): expected object, got \[\]/],
  [
    "a key twice",
    `{"aliasToARN":{\n"a":"${role}",\n"a":"${role}"}}`,
    /^config\.json:3: aliasToARN\.a: the key "a" stands twice/,
  ],
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
  [
    "a static container without an address",
    { staticContainers: { vm: { name: "vm" } } },
    /expected an IP address, got "vm"/,
  ],
  ["a port out of range", { listen: ":70000" }, /listen: expected :PORT.*got ":70000"/],
  ["a path in the endpoint", { metadataEndpoint: "http://169.254.169.254/latest" }, /without a path/],
  ["a policy that is no JSON", { defaultPolicy: "{" }, /expected a policy as JSON/],
  ["a policy without Statement", { defaultPolicy: "{}" }, /it has no Statement/],
  [
    "a policy over 2048 characters",
    { defaultPolicy: JSON.stringify({ Statement: ["x".repeat(2048)] }) },
    /at most 2048 characters, this has 20\d\d/,
  ],
  ["a policy in characters that STS refuses", { defaultPolicy: '{"Statement":"→"}' }, /Latin-1/],
  [
    "a duration under 900",
    { aliases: { a: { roleArn: role, durationSeconds: 899 } } },
    /aliases\.a\.durationSeconds.*got 899/,
  ],
  ["an allow that admits nobody", { aliases: { a: { roleArn: role, allow: {} } } }, /would admit nobody/],
  [
    "an ARN with a region",
    { aliasToARN: { a: "arn:aws:iam:eu-west-1:123456789012:role/x" } },
    /IAM ARNs have no region/,
  ],
  ["an ARN of a user", { aliasToARN: { a: "arn:aws:iam::123456789012:user/x" } }, /no role\/…/],
  ["an allowRoleArns that allows everything", { allowRoleArns: ["*"] }, /expected a glob on a role ARN/],
  ["both dockerHost and dockerHosts", { dockerHost: "/a", dockerHosts: ["/b"] }, /dockerHost is given too/],
  ["a missing role", { aliases: { a: {} } }, /aliases\.a\.roleArn: expected string, got nothing/],
  ["an alias that looks like an ARN", { aliasToARN: { "arn:aws:x": role } }, /expected an alias/],
];

for (const [name, text, expected] of single) {
  t.test(`${name} is one problem that says so`, (t) => {
    const found = problems(text);
    t.equal(found.length, 1, found.join("\n"));
    t.match(found[0], expected);
    t.end();
  });
}

t.test("a file that cannot be read says which and why, and exits 78", async (t) => {
  const directory = t.testdir({ folder: {} });
  const hintFor = async (path: string) => {
    const error: unknown = await loadConfig(path).then(
      () => undefined,
      (error: unknown) => error,
    );
    if (!(error instanceof OperatorError)) throw new Error("expected an OperatorError");
    t.equal(error.exitCode, 78);
    return report(error);
  };
  t.match(await hintFor(join(directory, "absent.json")), /reading .*absent\.json: ENOENT.*\nCreate /s);
  t.match(await hintFor(join(directory, "folder")), /EISDIR.*\nThat is a directory/s);
  const secret = join(directory, "secret.json");
  await writeFile(secret, "{}");
  await chmod(secret, 0);
  if (process.getuid?.() !== 0) t.match(await hintFor(secret), /EACCES.*chown/s);
  await mkdir(join(directory, "x"));
});

t.test("ARNs of every partition and with paths are taken", (t) => {
  for (const partition of [
    "aws",
    "aws-cn",
    "aws-us-gov",
    "aws-eusc",
    "aws-iso",
    "aws-iso-b",
    "aws-iso-e",
    "aws-iso-f",
  ]) {
    t.same(
      problems({ aliasToARN: { a: `arn:${partition}:iam::123456789012:role/team/x/My+Role=,.@-_` } }),
      [],
      partition,
    );
  }
  t.end();
});

t.test("an alias called like a member of every object is an alias like others", (t) => {
  const config = valid({ aliasToARN: { constructor: role, toString: role } });
  t.same(Object.keys(config.aliasToARN), ["constructor", "toString"]);
  t.end();
});

t.test("an empty variable of the environment counts as unset", (t) => {
  const environment = readEnvironment({
    AWS_REGION: "",
    AWS_DEFAULT_REGION: "eu-west-1",
    https_proxy: "http://p:3128",
  });
  t.equal(environment.awsRegion, "eu-west-1");
  t.same(environment.proxy, { HTTPS_PROXY: "http://p:3128" });
  t.end();
});
