import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { parseConfig } from "../../../src/config/load.ts";
import { configJsonSchema, configSchema } from "../../../src/config/schema.ts";
import { failures } from "../../../src/credentials/failures.ts";
import { exitCodes } from "../../../src/errors.ts";
import { settingKeys } from "../../../src/firewall/settings.ts";
import { refusals } from "../../../src/imds/refusals.ts";
import { logCodes } from "../../../src/log-codes.ts";

/** What the package ships beside the program says the same as the program. */
const root = new URL("../../..", import.meta.url).pathname;
const read = (path: string) => readFileSync(join(root, path), "utf8");

t.test("the shipped JSON Schema is that of the program (node scripts/schema.ts writes it)", async (t) => {
  const { title: _title, ...schema } = JSON.parse(read("packaging/config.schema.json"));
  t.same(schema, JSON.parse(JSON.stringify(configJsonSchema())));
});

t.test("the shipped configuration is valid and gives nobody a role", async (t) => {
  const config = configSchema.parse(JSON.parse(read("packaging/config.json")));
  t.same({ ...config.aliases, ...config.aliasToARN }, {});
  t.same(config.allowRoleArns, []);
  t.notOk(config.defaultAlias);
});

for (const name of readdirSync(join(root, "packaging/examples")).filter((file) => file.endsWith(".json")))
  t.test(`the example ${name} is valid`, async (t) => {
    const parsed = parseConfig(read(`packaging/examples/${name}`), name);
    t.same(parsed.ok ? [] : parsed.problems, []);
  });

t.test("every line of the shipped firewall.conf is a comment, and every setting has one", async (t) => {
  const text = read("firewall/firewall.conf");
  t.same(
    text.split("\n").filter((line) => line !== "" && !line.startsWith("#")),
    [],
  );
  t.same(
    [...text.matchAll(/^#([A-Z_0-9]+)=/gm)].map(([, key]) => key),
    settingKeys,
  );
});

t.test("the manual page of firewall.conf explains every setting", async (t) => {
  const page = read("docs/man/ec2metaproxy-firewall.conf.5");
  for (const key of settingKeys) t.match(page, new RegExp(`^\\.It Ev .*\\b${key}\\b`, "m"), key);
});

t.test("the manual page of config.json has every key, and roff that reads well", async (t) => {
  const path = join(t.testdir({}), "page.5");
  execFileSync(process.execPath, [join(root, "scripts/man-config.ts"), path]);
  const page = readFileSync(path, "utf8");
  const { properties = {} } = configJsonSchema() as { properties?: Record<string, unknown> };
  for (const key of Object.keys(properties)) t.ok(page.includes(`\n.It Cm ${key}\n`), key);
  t.notMatch(page, /^\.(?![A-Z][a-z]\b|\\")/m, "no text line begins like a macro");
});

t.test("the manual page has every exit code", async (t) => {
  const [, section = ""] = /\.Sh EXIT STATUS\n([\s\S]*?)\.Sh /.exec(read("docs/man/ec2metaproxy.8")) ?? [];
  t.same(
    [...section.matchAll(/^\.It (\d+)$/gm)].map(([, code]) => Number(code)),
    Object.values(exitCodes),
  );
});

t.test("the manual page of the codes has every code, and roff that reads well", async (t) => {
  const path = join(t.testdir({}), "page.7");
  execFileSync(process.execPath, [join(root, "scripts/man-refusals.ts"), path]);
  const page = readFileSync(path, "utf8");
  for (const code of [...Object.keys(refusals), ...Object.keys(logCodes), ...Object.keys(failures)])
    t.ok(new RegExp(`^\\.It Cm ${code.replaceAll("-", "\\\\-")}( No .*)?$`, "m").test(page), code);
  t.notMatch(page, /^\.(?![A-Z][a-z]\b|\\")|@[A-Z]+@/m, "no text line begins like a macro");
  t.notMatch(page, /`|\]\(/, "no Markdown is left");
});

t.test("every document is in nfpm.yaml and in the lists of the packages' files", async (t) => {
  const documents = [
    ...["README.md", "SECURITY.md", "CHANGELOG.md"],
    ...readdirSync(join(root, "docs")).filter((file) => file.endsWith(".md")),
  ];
  for (const document of documents) {
    // Debian's name for it.
    const name = document === "CHANGELOG.md" ? "changelog" : document;
    const installed = `/usr/share/doc/ec2metaproxy/${name}.gz`;
    t.ok(read("nfpm.yaml").includes(`dst: ${installed},`), document);
    for (const list of ["deb", "rpm"])
      t.ok(read(`test/golden/package/${list}-files.txt`).includes(`${installed}\n`), `${list}: ${document}`);
  }
});

t.test("every unit and example is in nfpm.yaml", async (t) => {
  const contents = read("nfpm.yaml");
  for (const file of readdirSync(join(root, "systemd")))
    t.ok(contents.includes(`src: systemd/${file},`), file);
  for (const page of readdirSync(join(root, "docs/man"))) {
    t.ok(contents.includes(`/${page.replace(/\.in$/, "")}.gz"`), page);
  }
});
