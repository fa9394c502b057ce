import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { refusals } from "../../src/imds/refusals.ts";
import { type LogCode, logCodeSections, logCodes } from "../../src/log-codes.ts";

const source = join(import.meta.dirname, "../../src");
const files = readdirSync(source, { recursive: true, encoding: "utf8" }).filter(
  (file) => file.endsWith(".ts") && file !== "log-codes.ts",
);
const text = files.map((file) => readFileSync(join(source, file), "utf8")).join("\n");

// The type of Log makes each line of level warn and above name a code of the table.
for (const [code, { level, why, fix }] of Object.entries(logCodes))
  t.test(`${code} is logged, at the level of the table, and has a cause and a cure`, async (t) => {
    const uses = text.match(new RegExp(`code: "${code}"`, "g")) ?? [];
    t.ok(uses.length > 0, "some line has it");
    const methods = [...text.matchAll(new RegExp(`\\.(warn|error)\\(\\s*\\{ code: "${code}"`, "g"))];
    for (const [, method] of methods) t.equal(method, level);
    t.ok(why.length > 10 && fix.length > 5);
  });

t.test("no code means a refusal and a log line, which would be counted together", async (t) => {
  const shared = Object.keys(logCodes).filter((code) => code in refusals);
  t.same(shared, []);
});

t.test("each code is in one section of the manual page", async (t) => {
  const all: readonly string[] = Object.values(logCodeSections).flatMap((section) => Object.keys(section));
  t.equal(new Set(all).size, all.length);
  t.same([...all].sort(), (Object.keys(logCodes) as LogCode[]).sort()); // its own keys
});
