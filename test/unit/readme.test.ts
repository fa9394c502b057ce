import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { configJsonSchema, configSchema } from "../../src/config/schema.ts";
import { exitCodes } from "../../src/errors.ts";

const root = join(import.meta.dirname, "../..");
const readme = readFileSync(join(root, "README.md"), "utf8");

/** The rows of the table below a heading: key and default, as written. */
function configurationRows(): readonly (readonly [string, string])[] {
  const section = readme.slice(readme.indexOf("## Configuration"), readme.indexOf("## Operating"));
  return [...section.matchAll(/^\| `([^`]+)` \| (?:`(.*?)`|(none)) \|/gm)].map(
    ([, key = "", value, none]) => [key, value ?? none ?? ""],
  );
}

t.test("the README's configuration table has each key of the schema once, and no other", (t) => {
  const written = configurationRows()
    .map(([key]) => key)
    .sort();
  t.same(written, Object.keys(configJsonSchema().properties ?? {}).sort());
  t.end();
});

t.test("the README's defaults are the schema's", (t) => {
  const defaults: Readonly<Record<string, unknown>> = configSchema.parse({});
  for (const [key, written] of configurationRows()) {
    const expected = defaults[key];
    // A key whose own keys have defaults is written as {}: nothing has to be given.
    const shown = key === "passthrough" || key === "sts" || key === "limits" ? {} : expected;
    if (written === "none") t.equal(expected, undefined, key);
    else t.same(JSON.parse(written), shown, key);
  }
  t.end();
});

t.test("the README names every key of the grouped settings", (t) => {
  const properties = configJsonSchema().properties ?? {};
  for (const group of ["passthrough", "sts", "limits"]) {
    const schema = properties[group];
    const keys = typeof schema === "object" ? Object.keys(schema.properties ?? {}) : [];
    const row = readme.split("\n").find((line) => line.startsWith(`| \`${group}\` |`)) ?? "";
    for (const key of keys) t.match(row, `\`${key}\``, `${group}.${key}`);
  }
  t.end();
});

t.test("the README names every exit code", (t) => {
  const line = readme.split("\n").find((text) => text.startsWith("Exit codes:")) ?? "";
  for (const code of Object.values(exitCodes)) t.match(line, new RegExp(`\\b${code}\\b`));
  t.end();
});

t.test("every file that the README links to is there", (t) => {
  for (const [, target = ""] of readme.matchAll(/\]\((?!https?:)([^)#]+)/g))
    t.ok(existsSync(join(root, target)), target);
  t.end();
});
