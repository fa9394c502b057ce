import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import t from "tap";
import { parseConfig } from "../../src/config/load.ts";
import { configJsonSchema, configSchema } from "../../src/config/schema.ts";
import { exitCodes } from "../../src/errors.ts";
import { decide } from "../../src/roles/grant.ts";
import { rolePolicy } from "../../src/roles/policy.ts";
import { commandNames } from "../../src/usage.ts";
import { containerWith } from "./roles/cases.ts";

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

const groups = ["passthrough", "sts", "limits"];
const defaults: Readonly<Record<string, unknown>> = configSchema.parse({});
for (const [key, written] of configurationRows())
  t.test(`the README's default of ${key} is the schema's`, (t) => {
    const expected = defaults[key];
    if (written === "none") t.equal(expected, undefined);
    // A group whose keys have defaults is written as {}: nothing is required in it.
    else t.same(JSON.parse(written), groups.includes(key) ? {} : expected);
    t.end();
  });

for (const group of groups)
  t.test(`the README names every key of ${group}`, (t) => {
    const schema = configJsonSchema().properties?.[group];
    const keys = typeof schema === "object" ? Object.keys(schema.properties ?? {}) : [];
    t.ok(keys.length > 0, "the group has keys");
    const row = readme.split("\n").find((line) => line.startsWith(`| \`${group}\` |`)) ?? "";
    for (const key of keys) t.match(row, `\`${key}\``, key);
    t.end();
  });

t.test("the README's example configurations are valid, and give the roles that it says", async (t) => {
  const blocks = [...readme.matchAll(/```json\n(.*?)\n```/gs)].map(([, text = ""]) => text);
  t.ok(blocks.length > 0, "there is one");
  for (const text of blocks) {
    const parsed = parseConfig(text, "README.md");
    t.same(parsed.ok ? [] : parsed.problems, []);
    if (!parsed.ok) continue;
    const labelled = containerWith({ labels: { "ec2metaproxy.RoleAlias": "db" } });
    t.match(decide(labelled, rolePolicy(parsed.config), undefined), { kind: "grant", roleName: "Database" });
    t.match(decide(containerWith(), rolePolicy(parsed.config), undefined), {
      kind: "grant",
      roleName: "Default",
    });
  }
});

t.test("each command and make target that the README names exists", async (t) => {
  for (const [, command = ""] of readme.matchAll(/`ec2metaproxy ([a-z]+)\b/g))
    t.ok(
      commandNames.some((name) => name === command),
      `ec2metaproxy ${command}`,
    );
  for (const [, target = ""] of readme.matchAll(/(?:`|^ {4})make ([a-z][a-z-]*)/gm))
    t.match(readFileSync(join(root, "Makefile"), "utf8"), new RegExp(`^${target}:`, "m"), `make ${target}`);
});

t.test("the README names every exit code", (t) => {
  const line = readme.split("\n").find((text) => text.startsWith("Exit codes:")) ?? "";
  for (const code of Object.values(exitCodes)) t.match(line, new RegExp(`\\b${code}\\b`));
  t.end();
});

t.test("the README shows what `make demo` prints without Docker", async (t) => {
  const [, block] = /<!-- demo -->\n```\n(.*?)\n```/s.exec(readme) ?? [];
  const env = { ...process.env, DOCKER_HOST: "unix:///nonexistent/docker.sock" };
  const { stdout } = await promisify(execFile)(process.execPath, [join(root, "scripts/demo.ts")], { env });
  t.equal(block, stdout.split("\n\nThe proxy's log:", 1)[0]);
});

t.test("every file that the README links to exists", (t) => {
  for (const [, target = ""] of readme.matchAll(/\]\((?!https?:)([^)#]+)/g))
    t.ok(existsSync(join(root, target)), target);
  t.end();
});
