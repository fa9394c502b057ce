import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import t from "tap";
import { openAdmin } from "../../src/observability/admin.ts";
import { EngineStandIn, idOf } from "../support/engine/stand-in.ts";
import { unsafe } from "../support/hostile-texts.ts";

const main = new URL("../../src/main.ts", import.meta.url).pathname;
const slowReader = new URL("../support/slow-reader.py", import.meta.url).pathname;

// Not in t.testdir(): a socket's path has room for 107 bytes.
const folder = mkdtempSync(join(tmpdir(), "output-"));
t.teardown(() => rmSync(folder, { recursive: true }));

const status = {
  healthy: true,
  health: { parts: {}, problems: [], notes: [] },
  summary: "Serving",
  engines: [],
  credentials: {},
  containers: Array.from({ length: 20_000 }, (_, index) => ({ id: `${index}`, name: `container-${index}` })),
};
const admin = await openAdmin(join(folder, "admin.sock"), () => status);
t.teardown(() => admin.close());

const engine = await EngineStandIn.listen();
t.teardown(() => engine[Symbol.asyncDispose]());
for (let index = 0; index < 200; index++) {
  const labels = {
    "ec2metaproxy.RoleAlias": "nobody",
    "ec2metaproxy.Policy": `{"Statement":"${"x".repeat(300)}"}`,
  };
  engine.run({
    id: idOf(`c${index}`),
    name: `c${index}`,
    networks: { bridge: { ipv4: `172.17.1.${index}` } },
    labels,
  });
}
const configPath = join(
  t.testdir({
    "config.json": JSON.stringify({
      dockerHost: engine.socketPath,
      metadataEndpoint: "http://127.0.0.1:1",
      aliasToARN: { web: "arn:aws:iam::123456789012:role/web" },
    }),
    "bad.json": JSON.stringify(
      Object.fromEntries(Array.from({ length: 90 }, (_, index) => [`key${index}`, 1])),
    ),
  }),
  "config.json",
);
const bad = configPath.replace("config.json", "bad.json");

/** Runs a program to its end. */
async function run(program: string, args: readonly string[], variables: NodeJS.ProcessEnv = {}) {
  const env = {
    ...variables,
    PATH: process.env.PATH,
    RUNTIME_DIRECTORY: folder,
    AWS_REGION: "eu-west-1",
    AWS_ENDPOINT_URL_STS: "http://127.0.0.1:1",
    AWS_ACCESS_KEY_ID: "AKIAIOSFODNN7EXAMPLE",
    AWS_SECRET_ACCESS_KEY: "x",
  };
  const child = spawn(program, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  const [out, err, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, "close"),
  ]);
  return { out, err, code: code as number }; // null only where a signal ended it
}

const commands: readonly [
  name: string,
  stream: "stdout" | "stderr",
  args: readonly string[],
  code: number,
  atLeast: number,
][] = [
  ["status --json", "stdout", ["status", "--json"], 0, 1_000_000],
  ["status", "stdout", ["status"], 0, 500_000],
  ["check --json", "stdout", ["check", "--json", "-c", configPath], 1, 30_000],
  ["check of a bad file", "stderr", ["check", "-c", bad], 78, 8_000],
  ["explain", "stdout", ["explain", "c7", "--json", "-c", configPath], 1, 500],
  ["firewall render", "stdout", ["firewall", "render", "--backend", "nftables", "-c", configPath], 0, 1_000],
  ["--help", "stdout", ["--help"], 0, 1_000],
  ["--version", "stdout", ["--version"], 0, 10],
  ["wrong usage", "stderr", ["nothing"], 64, 50],
];

// Most of the time is spent waiting for readers.
t.jobs = 4;

for (const [name, stream, args, expected, atLeast] of commands) {
  t.test(`${name} is whole for a reader that is late and slow`, { buffered: true }, async (t) => {
    const quick = await run(process.execPath, [main, ...args]);
    const slow = await run("python3", [slowReader, stream, process.execPath, main, ...args]);
    t.equal(quick.code, expected, quick.err);
    t.equal(slow.code, expected);
    const whole = stream === "stdout" ? quick.out : quick.err;
    t.ok(whole.length >= atLeast, `${whole.length} characters`);
    t.equal(slow.out.length, whole.length);
    t.ok(slow.out.endsWith(whole.slice(-100)));
  });

  for (const reader of name === "status" ? ["head -n 1 >/dev/null", "true"] : ["true"]) {
    t.test(`${name} ends quietly when its reader, ${reader}, goes away`, { buffered: true }, async (t) => {
      const redirect = stream === "stdout" ? "" : "2>&1 >/dev/null";
      const script = `"$@" ${redirect} | ${reader}; exit \${PIPESTATUS[0]}`;
      const { err, code } = await run("bash", ["-c", script, "bash", process.execPath, main, ...args]);
      t.equal(code, expected);
      t.notMatch(err, /EPIPE|\bat /, "nothing about it on standard error");
    });
  }
}

t.test("output that cannot be written is a failure that says so", async (t) => {
  const { err, code } = await run("bash", [
    "-c",
    '"$@" >/dev/full',
    "bash",
    process.execPath,
    main,
    "--help",
  ]);
  t.equal(code, 69);
  t.match(err, /writing to standard output: .*ENOSPC.*part of the output is missing/);
  t.notMatch(err, /\bat /);
});

for (const name of ["constructor", "toString", "__proto__"]) {
  t.test(`${name}, a member of every object, is no command`, async (t) => {
    const { err, code } = await run(process.execPath, [main, name, "--json"]);
    t.equal(code, 64, err);
    t.match(err, `there is no command "${name}"`);
  });
}

/** Runs the program with standard error connected to the journal, as far as the program can tell. */
const runInJournal = (...args: readonly string[]) =>
  run("bash", [
    "-c",
    'JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec "$@"',
    "bash",
    process.execPath,
    ...args,
  ]);

const throwInTimer = (error: string) =>
  `--import=data:text/javascript,${encodeURIComponent(`setTimeout(() => { throw ${error}; }, 100)`)}`;

const fatal: readonly [name: string, args: readonly string[], code: number, lines: number, says: RegExp][] = [
  ["wrong usage", [main, "nothing"], 64, 2, /^<3>ec2metaproxy: there is no command "nothing"\n<3>/],
  ["a configuration with problems", [main, "serve", "-c", bad], 78, 92, /^<3>ec2metaproxy: .*90 problems\n/],
  [
    "a bug outside of every command",
    [throwInTimer(String.raw`new Error("\u001b[2Jfirst\nsecond\u0085")`), main, "serve", "-c", configPath],
    70,
    4,
    /^<3>ec2metaproxy: \\u\{1b\}\[2Jfirst\n<3> {6}second\\u\{85\}\n<3>Error: \\u\{1b\}\[2Jfirst\n<3>second/,
  ],
];

for (const [name, args, expected, lines, says] of fatal) {
  t.test(
    `every line of the report of ${name} has priority 3 in the journal`,
    { buffered: true },
    async (t) => {
      const { err, code } = await runInJournal(...args);
      t.equal(code, expected, err);
      t.match(err, says);
      const written = err.trimEnd().split("\n");
      t.ok(written.length >= lines, err);
      t.same(
        written.filter((line) => !line.startsWith("<3>")),
        [],
      );
      t.notMatch(err, unsafe);
    },
  );
}

t.test("a warning of a one-shot command has priority 4 in the journal", { buffered: true }, async (t) => {
  const { err, code } = await runInJournal(main, "firewall", "render", "--backend", "nftables", "-c", bad);
  t.equal(code, 0);
  t.match(err, /^<4>.*bad\.json has problems; .*\n$/);
});

for (const command of ["serve", "guard", "check"])
  t.test(`${command} reports the problems of file and variables together`, { buffered: true }, async (t) => {
    const variables = { HTTPS_PROXY: "none", DOCKER_HOST: "ssh://host" };
    const { err, code } = await run(process.execPath, [main, command, "-c", bad], variables);
    t.equal(code, 78);
    t.match(err, /bad\.json has 90 problems, and the environment has (1 problem|2 problems)\n/);
    t.match(err, command === "guard" ? /^ {2}DOCKER_HOST: /m : /^ {2}HTTPS_PROXY: /m);
    t.match(err, /Edit .*bad\.json\. Edit \/etc\/ec2metaproxy\/environment/);
  });

t.test("a report that does not go to the journal has no priorities", { buffered: true }, async (t) => {
  const { err } = await run(process.execPath, [main, "nothing"], { JOURNAL_STREAM: "1:2" });
  t.match(err, /^ec2metaproxy: there is no command/);
});

for (const [args, variables, expected] of [
  [["serve", "-c", configPath], { HTTPS_PROXY: "none" }, /HTTPS_PROXY: expected a port/],
  [
    ["check", "-c", configPath],
    { AWS_DEFAULT_REGION: "us-east-1a" },
    /AWS_DEFAULT_REGION: .*Write us-east-1\./,
  ],
  [["guard", "-c", configPath], { DOCKER_HOST: "ssh://host" }, /DOCKER_HOST: cannot use "ssh:\/\/host"/],
] as const)
  t.test(`${args[0]} with a wrong ${Object.keys(variables)} ends with 78 and names it`, async (t) => {
    const { err, code } = await run(process.execPath, [main, ...args], variables);
    t.equal(code, 78, err);
    t.match(err, expected);
    t.match(err, /Edit \/etc\/ec2metaproxy\/environment/);
  });
