import t from "tap";
import { jsonText, printable, printableLines, quote, shown } from "../../src/text.ts";
import { hostileTexts, unsafe } from "../support/hostile-texts.ts";

for (const text of hostileTexts) {
  // A test's name is shown to a terminal as well.
  t.test(`${text.replace(/[^ -~]/g, "?")} can do nothing in a terminal, and stays readable`, (t) => {
    t.notMatch(printable(text), unsafe);
    t.notMatch(printable(text), /\n/);
    t.notMatch(shown(text), unsafe);
    t.notMatch(jsonText({ [text]: text }), unsafe);
    t.same(JSON.parse(jsonText({ [text]: text })), { [text]: text });
    t.same(JSON.parse(shown(JSON.stringify([text]))), [text], "JSON says the same after it");
    t.end();
  });
}

t.test("several lines keep their breaks and are indented", (t) => {
  t.equal(printableLines("a\n\tb\u001b\n", "  "), "a\n      b\\u{1b}");
  t.end();
});

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
  t.test(`a text is quoted as ${expected.slice(0, 40).replace(/[^ -~]/g, "?")}`, (t) => {
    t.equal(quote(text), expected);
    t.end();
  });
}

t.test("control characters in a line are escaped", (t) => {
  t.equal(printable("a\u0000\r\tb"), "a\\u{0}\\u{d}\\u{9}b");
  t.end();
});
