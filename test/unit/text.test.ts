import t from "tap";
import { jsonText, printable, printableLines, shown } from "../../src/text.ts";
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
