import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import { loadConfig, readEnvironment } from "../../../src/config/load.ts";
import { OperatorError, report } from "../../../src/errors.ts";
import { problemsIn, refusal } from "./fixture.ts";

const empty: readonly [string, string | object, RegExp][] = [
  ["an empty file", "", /the file is empty/],
  ["white space only", " \n\t", /the file is empty/],
];

for (const [name, text, expected] of empty) {
  t.test(`${name} is one problem with a matching message`, (t) => {
    const found = problemsIn(text);
    t.equal(found.length, 1, found.join("\n"));
    t.match(found[0], expected);
    t.end();
  });
}

t.test("a file that cannot be read is reported by name and cause, with exit code 78", async (t) => {
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

t.test("40,000 mistakes are found in seconds, and 100 are shown", async (t) => {
  const members = Array.from({ length: 40_000 }, (_, index) => `"a${index}":"x"`).join(",\n");
  const path = join(t.testdir({ "config.json": `{"aliasToARN":{${members}}}` }), "config.json");
  const started = performance.now();
  const text = await refusal(path);
  t.match(text, /has 40000 problems; these are the first 100/);
  t.equal(text.split("\n").length, 102);
  t.ok(performance.now() - started < 20_000);
});

t.test("an empty environment variable counts as unset", (t) => {
  const environment = readEnvironment({
    AWS_REGION: "",
    AWS_DEFAULT_REGION: "eu-west-1",
    https_proxy: "http://p:3128",
  });
  t.equal(environment.awsRegion, "eu-west-1");
  t.same(environment.proxy, { HTTPS_PROXY: "http://p:3128" });
  t.end();
});
