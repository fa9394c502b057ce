import { spawnSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import { refusal } from "./fixture.ts";

const files: readonly [string, string | Uint8Array, RegExp][] = [
  [
    "invalid UTF-8",
    Buffer.from('{\n"verbose":\n"\xe9"}', "latin1"),
    /config\.json:3: .*not valid UTF-8.*ISO-8859-1/,
  ],
  ["half a character at the end", Buffer.from([0x7b, 0x0a, 0xc3]), /config\.json:2: .*not valid UTF-8/],
  ["a surrogate in UTF-8", Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]), /config\.json:1: .*not valid UTF-8/],
  ["UTF-16, little end first", Buffer.from("\ufeff{}", "utf16le"), /the file is UTF-16\. .*iconv/],
  ["UTF-16, big end first", Buffer.from("\ufeff{}", "utf16le").swap16(), /the file is UTF-16/],
  ["more than 1 MiB", `{"listen":"${"x".repeat(1024 * 1024)}"}`, /is larger than 1 MiB/],
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

t.test("reading something other than a file is bounded in time and length", async (t) => {
  const folder = t.testdir({});
  const fifo = join(folder, "fifo");
  t.equal(spawnSync("mkfifo", [fifo]).status, 0);
  t.match(await refusal(fifo), /the file is empty/, "a FIFO without a writer");
  t.match(await refusal(folder), /EISDIR.*\n.*That is a directory/);
  t.match(await refusal("/dev/zero"), /is larger than 1 MiB/);
  t.match(await refusal("/dev/null"), /the file is empty/);
  t.match(await refusal(join(folder, "fifo", "x")), /ENOTDIR/);
});

t.test("a pipe is read to its end, but not longer than 2 s", { timeout: 30_000 }, (t) => {
  const program = `
    import { loadConfig } from ${JSON.stringify(new URL("../../../src/config/load.ts", import.meta.url).href)};
    import { report } from ${JSON.stringify(new URL("../../../src/errors.ts", import.meta.url).href)};
    await loadConfig(process.argv[1]).then((config) => console.log(config.listen), (error) => console.log(report(error)));`;
  const run = (writer: string) =>
    spawnSync("bash", ["-c", `"$0" --input-type=module -e "$1" <(${writer})`, process.execPath, program], {
      encoding: "utf8",
      // The writer outlives the reader. The reader must not wait for it.
      stdio: ["ignore", "pipe", "ignore"],
      env: { PATH: process.env.PATH },
    }).stdout;
  t.equal(run(`sleep 0.5; echo '{"listen":":1"}'`), ":1\n");
  t.match(run("exec sleep 15"), /reading did not reach the end within 2 s/);
  t.end();
});
