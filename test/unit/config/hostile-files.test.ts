import { spawnSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import { loadConfig, parseConfig } from "../../../src/config/load.ts";
import { OperatorError, report } from "../../../src/errors.ts";

const role = "arn:aws:iam::123456789012:role/db";

/** What an operator reads of a file that is refused; fails where it is taken, or is a bug's trace. */
async function refusal(path: string): Promise<string> {
  const error: unknown = await loadConfig(path).then(
    () => new Error("the file was taken"),
    (error: unknown) => error,
  );
  if (!(error instanceof OperatorError)) throw error;
  if (error.exitCode !== 78) throw new Error(`exit code ${error.exitCode}`);
  return report(error);
}

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
  ["a NUL byte", "{\n\0}", /config\.json:2: there is a NUL byte\. Is the file UTF-16\?/],
  ["nothing but NUL bytes", new Uint8Array(4096), /:1: there is a NUL byte/],
  [
    "an escaped NUL",
    '{"dockerTls":{"ca":"/a\\u0000b","cert":"/b","key":"/c"}}',
    /dockerTls\.ca: there is a NUL/,
  ],
  ["an escaped NUL in a key", '{"defaultPolicy":{"Statement":[],"a\\u0000b":1}}', /NUL character in the key/],
  [
    "invalid UTF-8",
    Buffer.from('{\n"verbose":\n"\xe9"}', "latin1"),
    /config\.json:3: .*not UTF-8.*ISO-8859-1/,
  ],
  ["half a character at the end", Buffer.from([0x7b, 0x0a, 0xc3]), /config\.json:2: .*not UTF-8/],
  ["a surrogate in UTF-8", Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]), /config\.json:1: .*not UTF-8/],
  ["UTF-16, little end first", Buffer.from("\ufeff{}", "utf16le"), /the file is UTF-16\. .*iconv/],
  ["UTF-16, big end first", Buffer.from("\ufeff{}", "utf16le").swap16(), /the file is UTF-16/],
  ["UTF-16 without a mark", Buffer.from("{}", "utf16le"), /NUL byte. Is the file UTF-16/],
  ["more than 1 MiB", `{"listen":"${"x".repeat(1024 * 1024)}"}`, /has more than 1 MiB/],
  ["a number that JSON has not", '{"limits":{"connections":01}}', /expected JSON/],
  [
    "a number out of range",
    '{"limits":{"connections":1e400}}',
    /limits\.connections: .*, got 1e400, which is out of range/,
  ],
  ["one within", '{"defaultPolicy":{"Statement":[1e400]}}', /got \{"Statement":\["Infinity"\]\}/],
  ["one below", '{"sts":{"callsPerSecond":-1e400}}', /got -1e400, which is out of range/],
  [
    "half a surrogate pair in a name",
    `{"aliasToARN":{"a\\ud800":"${role}"}}`,
    /half a surrogate pair in the key/,
  ],
  ["half a surrogate pair in a text", '{"$schema":"\\udc00"}', /half a surrogate pair in the text/],
  ["a bare word", "NaN", /expected JSON/],
  ["a no-break space", "\u00a0{}", /expected JSON/],
];

for (const [name, content, expected] of files) {
  t.test(`${name}: a problem with its line, and no trace`, async (t) => {
    const path = join(t.testdir({}), "config.json");
    await writeFile(path, content);
    const text = await refusal(path);
    t.match(text, expected);
    t.match(text, /has 1 problem\n/);
    t.notMatch(text, /\n\s+at /);
  });
}

t.test("64 levels and 1 MiB are read, and a byte order mark is no mistake", (t) => {
  const deep = parseConfig(nested(63), "config.json");
  t.match(deep, [{ message: /expected string/ }]);
  t.equal(Array.isArray(parseConfig('\ufeff{"verbose":true}', "config.json")), false);
  t.end();
});

t.test("50,000 mistakes are found in seconds, and 100 are shown", async (t) => {
  const members = Array.from({ length: 40_000 }, (_, index) => `"a${index}":"x"`).join(",\n");
  const path = join(t.testdir({ "config.json": `{"aliasToARN":{${members}}}` }), "config.json");
  const started = performance.now();
  const text = await refusal(path);
  t.match(text, /has 40000 problems; these are the first 100 of them/);
  t.equal(text.split("\n").length, 102);
  t.ok(performance.now() - started < 20_000);
});

t.test("what is no file is read for a bounded time and length", async (t) => {
  const folder = t.testdir({});
  const fifo = join(folder, "fifo");
  t.equal(spawnSync("mkfifo", [fifo]).status, 0);
  t.match(await refusal(fifo), /the file is empty/, "a FIFO that nobody writes to");
  t.match(await refusal(folder), /EISDIR.*\n.*That is a directory/);
  t.match(await refusal("/dev/zero"), /has more than 1 MiB/);
  t.match(await refusal("/dev/null"), /the file is empty/);
  t.match(await refusal(join(folder, "fifo", "x")), /ENOTDIR/);
});

t.test("a pipe is read to its end, and given up where its writer says nothing", { timeout: 30_000 }, (t) => {
  const program = `
    import { loadConfig } from ${JSON.stringify(new URL("../../../src/config/load.ts", import.meta.url).href)};
    import { report } from ${JSON.stringify(new URL("../../../src/errors.ts", import.meta.url).href)};
    await loadConfig(process.argv[1]).then((config) => console.log(config.listen), (error) => console.log(report(error)));`;
  const run = (writer: string) =>
    spawnSync("bash", ["-c", `"$0" --input-type=module -e "$1" <(${writer})`, process.execPath, program], {
      encoding: "utf8",
      // The writer outlives the reader: nothing of ours may wait for it.
      stdio: ["ignore", "pipe", "ignore"],
      env: { PATH: process.env.PATH },
    }).stdout;
  t.equal(run(`sleep 0.5; echo '{"listen":":1"}'`), ":1\n");
  t.match(run("exec sleep 15"), /nothing more came within 2 s/);
  t.end();
});

t.test("__proto__ is a problem wherever a key can stand", (t) => {
  const places: readonly [string, string][] = [
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
  for (const [text, path] of places) {
    t.match(
      parseConfig(text, "config.json"),
      [{ where: `config.json:1: ${path}`, message: "a key cannot be called __proto__" }],
      path,
    );
    t.equal((parseConfig(text, "config.json") as readonly unknown[]).length, 1, path);
  }
  t.end();
});
