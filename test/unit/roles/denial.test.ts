import { readFile } from "node:fs/promises";
import t from "tap";
import { denialCodes } from "../../../src/roles/denial.ts";
import { printable, quote } from "../../../src/text.ts";

const read = (path: string) => readFile(new URL(`../../../${path}`, import.meta.url), "utf8");

t.test("docs/refusals.md lists every code that a request can be refused with", async (t) => {
  const documented = [...(await read("docs/refusals.md")).matchAll(/^\| (`.*?) \|/gm)].flatMap(
    ([, cell = ""]) => [...cell.matchAll(/`([a-z0-9-]+)`/g)].map(([, code]) => code),
  );
  const written = async (path: string, call: RegExp) =>
    [...(await read(path)).matchAll(call)].map(([, code = ""]) => code);
  const codes = [
    ...denialCodes,
    ...(await written("src/imds/handler.ts", /\brefuse\(\s*\d+,\s*"([a-z0-9-]+)"/g)),
    ...(await written("src/imds/paths.ts", /\brefused\(\s*\d+,\s*"([a-z0-9-]+)"/g)),
    ...(await written("src/imds/policy.ts", /\bdenied\(\s*"([a-z0-9-]+)"/g)),
    ...(await written("src/containers/provenance.ts", /\brefusal\(\s*"([a-z0-9-]+)"/g)),
  ];
  for (const code of new Set(codes)) t.ok(documented.includes(code), code);
  t.equal(new Set(documented).size, documented.length, "each once");
});

t.test("a quoted text can do nothing in a log or a terminal", (t) => {
  for (const [text, expected] of [
    ["web", '"web"'],
    ['say "web"', '"say \\"web\\""'],
    ["a\nb", '"a\\nb"'],
    ["\u001b[2J", '"\\u001b[2J"'],
    ["\u009b1m", '"\\u{9b}1m"'],
    ["\u202eweb", '"\\u{202e}web"'],
    ["a\u2028b", '"a\\u{2028}b"'],
    ["\udb40\udc41", '"\\u{e0041}"'],
    ["\ud800", '"\\ud800"'],
    ["東京 é 😀", '"東京 é 😀"'],
    ["x".repeat(100), `"${"x".repeat(100)}"`],
    ["x".repeat(1_000_000), `"${"x".repeat(99)}…"`],
  ] as const) {
    t.equal(quote(text), expected);
  }
  t.equal(printable("a\u0000\r\tb"), "a\\u{0}\\u{d}\\u{9}b");
  t.end();
});
