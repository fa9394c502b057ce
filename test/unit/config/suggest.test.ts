import t from "tap";
import { didYouMean } from "../../../src/config/suggest.ts";

const keys = ["listen", "aliases", "sts"];

const cases: readonly [written: string, suggestion: string][] = [
  ["listn", 'Did you mean "listen"?'],
  ["LISTEN", 'Did you mean "listen"?'],
  ["alaises", 'Did you mean "aliases"?'],
  ["st", 'Did you mean "sts"?'],
  ["verbose", ""],
  ["", ""],
  [`listen${"n".repeat(251)}`, ""],
];

for (const [written, suggestion] of cases) {
  t.test(
    `"${written.slice(0, 20)}" (${written.length} characters) suggests ${suggestion || "nothing"}`,
    (t) => {
      t.equal(didYouMean(written, keys), suggestion);
      t.end();
    },
  );
}
