import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { didYouMean } from "../../../src/config/suggest.ts";
import { problemLine } from "../../../src/errors.ts";
import { parseSettings } from "../../../src/firewall/parse-settings.ts";
import { defaultSettings, settingKeys } from "../../../src/firewall/settings.ts";

const shipped = join(import.meta.dirname, "../../../firewall");
const read = (...path: readonly string[]) => readFileSync(join(shipped, ...path), "utf8");
const parse = (text: string) => parseSettings([{ path: "shipped", text }], { proxy: 18_000 }, didYouMean);

t.test("the shipped firewall.conf changes no default", (t) => {
  t.strictSame(parse(read("firewall.conf")), { ok: true, settings: defaultSettings({ proxy: 18_000 }) });
  t.end();
});

t.test("the shipped firewall.conf has every setting once, with its default", (t) => {
  const lines = read("firewall.conf")
    .split("\n")
    .filter((line) => /^#[A-Z0-9_]+=/.test(line));
  const keys = lines.map((line) => line.slice(1, line.indexOf("=")));
  t.strictSame(keys.toSorted(), settingKeys.toSorted());
  t.strictSame(parse(lines.map((line) => line.slice(1)).join("\n")), {
    ok: true,
    settings: defaultSettings({ proxy: 18_000 }),
  });
  t.end();
});

for (const file of ["docs/firewall.md", "docs/man/ec2metaproxy-firewall.conf.5"]) {
  t.test(`${file} explains every setting`, (t) => {
    const text = readFileSync(join(shipped, "..", file), "utf8");
    for (const key of settingKeys) t.ok(text.includes(key), key);
    t.end();
  });
}

for (const name of readdirSync(join(shipped, "examples"))) {
  t.test(`the example ${name} is valid`, (t) => {
    const parsed = parse(read("examples", name));
    t.strictSame(parsed.ok ? [] : parsed.problems.map(problemLine), []);
    t.end();
  });
}
