import t from "tap";
import { parseAssignments, parseEnvironmentFile } from "../../../src/systemd/unit-environment.ts";

/** What systemd 252 makes of each line, by `systemctl show` and /proc/PID/environ. */
const rows = [
  ["A=b", { A: "b" }],
  ['A="b c"', { A: "b c" }],
  ["A='b \"c'", { A: 'b "c' }],
  ["  A = b ", { A: "b" }],
  ["A=b\\\nc", { A: "bc" }],
  ["# A=b\n; C=d\n\nE=f", { E: "f" }],
  ["A=b\nA=c", { A: "c" }],
  ["A=", { A: "" }],
  ["export A=b", {}],
  ["nonsense", {}],
  ["A=b=c", { A: "b=c" }],
  ['A="b\\"c"', { A: 'b"c' }],
] as const;

for (const [text, expected] of rows)
  t.test(`the environment file ${JSON.stringify(text)} sets ${JSON.stringify(expected)}`, (t) => {
    t.same(parseEnvironmentFile(text), expected);
    t.end();
  });

t.test("the assignments of Environment= are read as systemctl prints them", (t) => {
  t.same(parseAssignments('A=b "C=d e" "F=g\\"h" I=j=k'), { A: "b", C: "d e", F: 'g"h', I: "j=k" });
  t.same(parseAssignments(""), {});
  t.end();
});
