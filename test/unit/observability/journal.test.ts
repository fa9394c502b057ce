import t from "tap";
import { openLog } from "../../../src/observability/journal.ts";
import { hostileTexts, unsafe } from "../../support/hostile-texts.ts";

t.test("one event is one line, whatever words are in it", (t) => {
  for (const hostile of hostileTexts) {
    const lines: string[] = [];
    const log = openLog({ level: "info", priorities: true, write: (line) => lines.push(line) });
    log.info({ container: hostile, list: [hostile], err: new Error(hostile) }, `refused: ${hostile}`);
    t.equal(lines.length, 1);
    const [line = ""] = lines;
    t.notMatch(line, unsafe);
    t.equal(line.split("\n").length, 2, "the line's own end, and nothing after it");
    t.match(line, /^<6>refused: .* container=.* list=.* error=/);
  }
  t.end();
});

t.test("a field's text cannot begin another field", (t) => {
  const lines: string[] = [];
  const log = openLog({ level: "info", priorities: false, write: (line) => lines.push(line) });
  log.info({ container: "web role=admin", image: 'a"b', user: "a\u202eb", plain: "app:1.2" }, "refused");
  t.same(lines, ['refused container="web role=admin" image="a\\"b" user="a\\u{202e}b" plain=app:1.2\n']);
  t.end();
});
