import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import { parseConfig } from "../../../src/config/load.ts";
import { problemsIn, refusal, role } from "./fixture.ts";

const nested = (depth: number) => `{"$schema":\n${"[".repeat(depth)}${"]".repeat(depth)}}`;
const policy = (depth: number) => `{"Statement":${'{"a":'.repeat(depth)}1${"}".repeat(depth)}}`;

const files: readonly [string, string | Uint8Array, RegExp][] = [
  ["65 levels of lists", nested(64), /config\.json:2: there are more than 64 levels of brackets\. /],
  ["100,000 levels of lists", nested(100_000), /config\.json:2: there are more than 64 levels/],
  [
    "100,000 levels of objects in a policy",
    `{"defaultPolicy":${policy(100_000)}}`,
    /config\.json:1: there are more than 64/,
  ],
  ["100,000 brackets that nothing closes", "[".repeat(100_000), /more than 64 levels/],
  ["100,000 brackets behind a comment", `/* " */${"[".repeat(100_000)}`, /more than 64 levels/],
  ["100,000 brackets that do not match", "[}".repeat(100_000), /more than 64 levels/],
  ["100,000 brackets after a slip", `{"a" ]${'{"a":'.repeat(100_000)}`, /more than 64 levels/],
  ["100,000 members without a colon", `{${'"a"{'.repeat(100_000)}`, /more than 64 levels|expected JSON/],
  ["a NUL byte", "{\n\0}", /config\.json:2: the file contains a NUL byte\. Is it UTF-16\?/],
  ["nothing but NUL bytes", new Uint8Array(4096), /:1: the file contains a NUL byte/],
  [
    "an escaped NUL",
    '{"dockerTls":{"ca":"/a\\u0000b","cert":"/b","key":"/c"}}',
    /dockerTls\.ca: the string contains a NUL/,
  ],
  [
    "an escaped NUL in a key",
    '{"defaultPolicy":{"Statement":[],"a\\u0000b":1}}',
    /the key contains a NUL character/,
  ],
  ["UTF-16 without a mark", Buffer.from("{}", "utf16le"), /NUL byte. Is it UTF-16/],
  ["a number that JSON has not", '{"limits":{"connections":01}}', /expected JSON/],
  [
    "a number out of range",
    '{"limits":{"connections":1e400}}',
    /limits\.connections: .*, got 1e400, which is out of range/,
  ],
  ["one within", '{"defaultPolicy":{"Statement":[1e400]}}', /got \{"Statement":\["Infinity"\]\}/],
  ["one below", '{"sts":{"callsPerSecond":-1e400}}', /got -1e400, which is out of range/],
  [
    "an unpaired surrogate in a name",
    `{"aliasToARN":{"a\\ud800":"${role}"}}`,
    /the key contains an unpaired surrogate/,
  ],
  ["an unpaired surrogate in a text", '{"$schema":"\\udc00"}', /the string contains an unpaired surrogate/],
  ["a bare word", "NaN", /expected JSON/],
  ["a no-break space", "\u00a0{}", /expected JSON/],
];

for (const [name, content, expected] of files) {
  t.test(`${name} is one problem with its line, and no stack trace`, async (t) => {
    const path = join(t.testdir({}), "config.json");
    await writeFile(path, content);
    const text = await refusal(path);
    t.match(text, expected);
    t.match(text, /has 1 problem\n/);
    t.notMatch(text, /\n\s+at /);
  });
}

const syntax: readonly [string, string | object, RegExp][] = [
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
  ["an end in the middle", '{\n "verbose": true', /the end of the file/],
  ["a second object", "{} {}", /There is text after the end/],
  [
    "a key twice",
    `{"aliasToARN":{\n"a":"${role}",\n"a":"${role}"}}`,
    /^config\.json:3: aliasToARN\.a: duplicate key "a"/,
  ],
];

for (const [name, text, expected] of syntax) {
  t.test(`${name} is one problem with a matching message`, (t) => {
    const found = problemsIn(text);
    t.equal(found.length, 1, found.join("\n"));
    t.match(found[0], expected);
    t.end();
  });
}

t.test("64 levels of brackets and a byte order mark are accepted", (t) => {
  const deep = parseConfig(nested(63), "config.json");
  t.match(deep, { problems: [{ message: /expected string/ }] });
  t.ok(parseConfig('\ufeff{"verbose":true}', "config.json").ok);
  t.end();
});

const forbidden: readonly [text: string, path: string][] = [
  [`{"__proto__":{"verbose":true}}`, "__proto__"],
  [`{"aliasToARN":{"__proto__":"${role}"}}`, "aliasToARN.__proto__"],
  [`{"aliasToARN":{"\\u005f_proto__":"${role}"}}`, "aliasToARN.__proto__"],
  [`{"aliases":{"__proto__":{"roleArn":"${role}"}}}`, "aliases.__proto__"],
  [`{"aliases":{"a":{"roleArn":"${role}","__proto__":{}}}}`, "aliases.a.__proto__"],
  [`{"aliases":{"a":{"roleArn":"${role}","tags":{"__proto__":"x"}}}}`, "aliases.a.tags.__proto__"],
  [
    `{"aliases":{"a":{"roleArn":"${role}","allow":{"labels":{"b":"c","__proto__":"x"}}}}}`,
    "aliases.a.allow.labels.__proto__",
  ],
  [
    `{"aliases":{"a":{"roleArn":"${role}","policy":{"Statement":[{"__proto__":1}]}}}}`,
    "aliases.a.policy.Statement.0.__proto__",
  ],
  [`{"defaultPolicy":{"Statement":[],"__proto__":1}}`, "defaultPolicy.__proto__"],
  [`{"staticContainers":{"__proto__":{"name":"vm"}}}`, "staticContainers.__proto__"],
  [`{"staticContainers":{"10.0.0.5":{"name":"vm","__proto__":{}}}}`, "staticContainers.10.0.0.5.__proto__"],
  [`{"sts":{"__proto__":{}}}`, "sts.__proto__"],
  [`{"passthrough":{"__proto__":{}}}`, "passthrough.__proto__"],
  [`{"limits":{"__proto__":null}}`, "limits.__proto__"],
];

for (const [text, path] of forbidden) {
  t.test(`the key ${path} is a problem`, (t) => {
    const parsed = parseConfig(text, "config.json");
    const problems = parsed.ok ? [] : parsed.problems;
    t.match(problems, [{ where: `config.json:1: ${path}`, message: "a key cannot be named __proto__" }]);
    t.equal(problems.length, 1);
    t.end();
  });
}
