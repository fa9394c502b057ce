import t from "tap";
import { printable, quote } from "../../../src/text.ts";

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
