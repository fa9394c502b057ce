import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { type Summary, summarize } from "../../../../scripts/tap/summary.ts";

const fixtures = join(import.meta.dirname, "../../../fixtures/tap");
const read = (name: string) => readFileSync(join(fixtures, `${name}.tap`), "utf8");
/** `passed failed skipped`. */
const counts = ({ passed, failed, skipped }: Summary) => `${passed} ${failed} ${skipped}`;
/** `file: outer > inner: first detail`. */
const failures = (summary: Summary) =>
  summary.failures.map(({ file, path, details }) => `${file}: ${path.join(" > ")}: ${details[0]}`);

t.test("tests and assertions at the top of a file count, what is inside them does not", async (t) => {
  const summary = summarize(read("passes"), 0);
  t.equal(counts(summary), "2 0 0");
  t.same(summary.failures, []);
});

t.test("in a file with all results each test at its top counts once", async (t) => {
  const summary = summarize(read("mixed"), 1);
  t.equal(counts(summary), "1 2 2");
});

t.test("a failure has its file, its full test name, its place and tap's diagnostics", async (t) => {
  const { failures } = summarize(read("mixed"), 1);
  t.match(failures[0], {
    file: "test/mixed.test.ts",
    path: ["fails", "one is two"],
    details: ["at test/mixed.test.ts:4", "stack:"],
  });
  t.match(failures[0]?.details.join("\n"), /-2\n {2}\+1/);
});

t.test("a nested failure is reported once, by its innermost name", async (t) => {
  const { failures } = summarize(read("mixed"), 1);
  t.same(
    failures.map(({ path }) => path),
    [
      ["fails", "one is two"],
      ["outer", "inner", "deep"],
    ],
  );
});

t.test("skips at every depth are listed with their reasons, also what is still to do", async (t) => {
  t.same(summarize(read("mixed"), 1).skips, [
    "test/mixed.test.ts: outer: skipped inner: no root",
    "test/mixed.test.ts: skipped: no wrk",
    "test/mixed.test.ts: todo: to do: later",
  ]);
});

t.test("measured figures and tables are noted, at every depth; other comments are not", async (t) => {
  t.same(summarize(read("mixed"), 1).notes, ["measured: top", "measured: 3 ms", "table: x"]);
});

t.test("a test in which the process ends has failed", async (t) => {
  const summary = summarize(read("ended-in-a-test"), 1);
  t.equal(counts(summary), "1 1 0");
  t.match(failures(summary), ["test/ends.test.ts: dies > test unfinished: at test/ends.test.ts:3"]);
});

t.test("a file that is killed after its tests have passed has failed", async (t) => {
  const summary = summarize(read("killed"), 1);
  t.equal(counts(summary), "1 1 0");
  t.same(failures(summary), ["test/killed.test.ts: : it failed without a failed test"]);
  t.ok(summary.failures[0]?.details.includes("signal: SIGKILL"));
});

t.test("a file that throws when it is loaded has failed", async (t) => {
  const summary = summarize(read("broken-at-load"), 1);
  t.equal(counts(summary), "0 1 0");
  t.same(failures(summary), ["test/broken.test.ts: : it failed without a failed test"]);
});

t.test("a file that runs no test has failed, though tap takes it for skipped", async (t) => {
  const summary = summarize(read("no-tests"), 0);
  t.equal(counts(summary), "0 1 0");
  t.same(failures(summary), ["test/zero.test.ts: : it ran no test"]);
});

t.test("a file that skips itself with a reason counts as one skipped test", async (t) => {
  const summary = summarize(read("skipped-file"), 0);
  t.equal(counts(summary), "0 0 1");
  t.same(summary.skips, ["test/skipped.test.ts: needs root"]);
});

t.test("a file that times out has a failed test, and does not count a second time", async (t) => {
  const summary = summarize(read("timeout"), 1);
  t.equal(counts(summary), "1 1 0");
  t.match(failures(summary), [/^test\/timeout\.test\.ts: hangs > timeout!/]);
});

t.test("a file that bails out has failed, and the reason is shown", async (t) => {
  const summary = summarize(read("bailout"), 1);
  t.equal(counts(summary), "1 1 0");
  t.same(failures(summary), ["test/bail.test.ts: : bailed out: no point"]);
});

t.test("each file that did not run because another bailed out has failed", async (t) => {
  const summary = summarize(read("bailout-of-four"), 1);
  t.equal(counts(summary), "0 4 0");
  t.same(summary.failures[0]?.details, ["bailed out: no point", "4 of 4 files did not run"]);
});

t.test("an assertion outside of a test is reported by its name", async (t) => {
  const summary = summarize(read("toplevel"), 1);
  t.equal(counts(summary), "1 1 0");
  t.match(failures(summary), ["test/toplevel.test.ts: a bare failure: at test/toplevel.test.ts:1"]);
});

t.test("the counts of several files add up", async (t) => {
  t.equal(counts(summarize(read("four-files"), 1)), "2 4 3");
});

t.test("a stream that is cut off in a file fails that file and those that are missing", async (t) => {
  const whole = read("four-files");
  const summary = summarize(whole.slice(0, whole.indexOf("# Subtest: outer")), 1);
  // One test passed and one failed; then the file itself, and three files that did not run.
  t.equal(counts(summary), "1 5 0");
  t.same(summary.failures.at(-1)?.details, ["3 of 4 files did not run"]);
});

t.test("no output at all is a failure, whatever tap's exit status", async (t) => {
  t.same(failures(summarize("", 0)), ["tap: : no file ran"]);
  t.equal(counts(summarize("", 0)), "0 1 0");
  t.equal(counts(summarize("", 1)), "0 1 0");
});

t.test("a failure of tap itself counts where no test failed", async (t) => {
  const summary = summarize(read("passes"), 1);
  t.equal(counts(summary), "2 1 0");
  t.same(failures(summary), ["tap: : tap ended with status 1, and no test failed"]);
});

t.test("the program prints the suite's line, skips, notes and failures, and writes the counts", async (t) => {
  const countsFile = join(mkdtempSync(join(tmpdir(), "tap-summary-")), "counts");
  const program = join(import.meta.dirname, "../../../../scripts/tap-summary.ts");
  const args = [program, "unit", "12", "1", join(fixtures, "mixed.tap"), countsFile];
  const output = execFileSync(process.execPath, args, { encoding: "utf8" });
  const lines = output.split("\n");
  t.equal(lines[0], "FAILED  unit: 1 passed, 2 failed, 2 skipped, 12 s");
  t.ok(lines.includes("        skipped: test/mixed.test.ts: skipped: no wrk"));
  t.ok(lines.includes("        measured: 3 ms"));
  t.ok(lines.includes("    not ok: test/mixed.test.ts: outer > inner > deep"));
  t.equal(readFileSync(countsFile, "utf8"), "1 2 2\n");
});
