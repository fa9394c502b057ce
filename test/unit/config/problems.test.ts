import t from "tap";
import { problemsIn, role } from "./fixture.ts";

t.test("five mistakes are five problems, each with line, path, value and hint", (t) => {
  const found = problemsIn(`{
  "listn": ":18000",
  "httpTokens": "requird",
  "aliasToARN": { "db": "arn:aws:iam::12:role/db" },
  "sts": { "regoin": "eu-west-1" },
  "defaultAlias": 7
}`);
  t.same(found, [
    'config.json:2: listn: unknown key|Did you mean "listen"?',
    'config.json:3: httpTokens: expected "required" or "optional", got "requird"|Did you mean "required"?',
    'config.json:4: aliasToARN.db: expected a role ARN (the account id has 2 digits, not 12), got "arn:aws:iam::12:role/db"|Meaning: arn:PARTITION:iam::ACCOUNT:role/NAME',
    'config.json:5: sts.regoin: unknown key|Did you mean "region"?',
    "config.json:6: defaultAlias: expected string, got 7|Meaning: Alias for containers that request no role. Without it they get none.",
  ]);
  t.end();
});

const single: readonly [string, string | object, RegExp][] = [
  ["an array", "[]", /\(whole file\): expected object, got \[\]/],
  [
    "a duration under 900",
    { aliases: { a: { roleArn: role, durationSeconds: 899 } } },
    /aliases\.a\.durationSeconds.*got 899/,
  ],
  [
    "an allow that matches no container",
    { aliases: { a: { roleArn: role, allow: {} } } },
    /would match no container/,
  ],
  ["a missing role", { aliases: { a: {} } }, /aliases\.a\.roleArn: expected string, got nothing/],
];

for (const [name, text, expected] of single) {
  t.test(`${name} is one problem with a matching message`, (t) => {
    const found = problemsIn(text);
    t.equal(found.length, 1, found.join("\n"));
    t.match(found[0], expected);
    t.end();
  });
}
