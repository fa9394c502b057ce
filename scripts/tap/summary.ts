import { Parser, type Result } from "tap-parser";

/** A failed assertion, or a test or file that failed without one. */
export type Failure = {
  readonly file: string;
  /** The tests that it is in, from the outermost, then its own name; empty for a file. */
  readonly path: readonly string[];
  /** What tap reports with it, readable, a line each. */
  readonly details: readonly string[];
};

export type Summary = {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly failures: readonly Failure[];
  /** Tests that were skipped or are still to do, at any depth, with the reason. */
  readonly skips: readonly string[];
  /** What tests report besides their result: measured figures, tables of expected and seen. */
  readonly notes: readonly string[];
};

/** A test file, while its results come in. */
type FileRecord = {
  readonly name: string;
  passed: number;
  failed: number;
  skipped: number;
  readonly failures: Failure[];
};

const notePattern = /^# ((?:measured|expected|seen|table)\b.*)$/s;
/** What tap writes as the reason when it "skips" a file that has no test. */
const noTests = "no tests found";

/**
 * Counts what `tap run --reporter=tap` wrote. A test counts if it stands at the top of its file, alone or
 * with tests inside it. A file counts itself only if it failed without a failed test, ran no test, or was
 * skipped as a whole.
 * @param exitStatus of tap. If it failed and no test did, that is a failure too.
 */
export function summarize(tap: string, exitStatus: number): Summary {
  const files: FileRecord[] = [];
  const skips: string[] = [];
  const notes: string[] = [];
  const failures: Failure[] = [];
  let current: FileRecord | undefined;
  let bailout: string | undefined;

  const root = new Parser();
  root.on("child", (parser: Parser) => {
    current = newRecord(parser.name);
    files.push(current);
    followFile(parser, current, skips, notes);
  });
  root.on("assert", (result: Result) => {
    // A file that dies before its first line of TAP has a result only.
    const file = current ?? newRecord(result.name);
    if (current === undefined) files.push(file);
    current = undefined;
    closeFile(file, result, skips);
  });
  root.on("comment", (line: string) => note(notes, line));
  root.on("bailout", (reason: string) => {
    bailout = reason;
  });
  root.end(tap);

  const bailedOut = bailout === undefined ? [] : [`bailed out: ${bailout}`];
  // A file without a result of its own was cut off.
  if (current !== undefined) fail(current, bailedOut[0] ?? "it was cut off: tap wrote no result for it");
  const planned = root.results?.plan.end ?? 0;
  const missing = Math.max(0, planned - files.length);
  for (const { failures: ofFile } of files) failures.push(...ofFile);
  let failed = files.reduce((sum, file) => sum + file.failed, 0);
  if (missing > 0) {
    failed += missing;
    const details = [...bailedOut, `${missing} of ${planned} files did not run`];
    failures.push({ file: "tap", path: [], details });
  }
  if (failed === 0 && (exitStatus !== 0 || files.length === 0)) {
    failed = 1;
    const reason =
      exitStatus === 0 ? "no file ran" : `tap ended with status ${exitStatus}, and no test failed`;
    failures.push({ file: "tap", path: [], details: [...bailedOut, reason] });
  }
  const skipped = files.reduce((sum, file) => sum + file.skipped, 0);
  const passed = files.reduce((sum, file) => sum + file.passed, 0);
  return { passed, failed, skipped, failures, skips: [...new Set(skips)].sort(), notes };
}

function newRecord(name: string): FileRecord {
  return { name, passed: 0, failed: 0, skipped: 0, failures: [] };
}

/** Counts the results at the top of a file. */
function followFile(parser: Parser, file: FileRecord, skips: string[], notes: string[]): void {
  let open: string | undefined;
  follow(parser, [], file, skips, notes);
  parser.on("child", (child: Parser) => {
    open = child.name;
  });
  parser.on("assert", (result: Result) => {
    open = undefined;
    if (isSkipped(result)) file.skipped += 1;
    else if (result.ok) file.passed += 1;
    else file.failed += 1;
  });
  parser.on("complete", () => {
    // The process ended in the middle of this test.
    if (open === undefined) return;
    file.failed += 1;
    if (!file.failures.some(({ path }) => path[0] === open))
      file.failures.push({ file: file.name, path: [open], details: ["it did not end"] });
  });
}

/** Collects failures, skips and notes at every depth. */
function follow(
  parser: Parser,
  path: readonly string[],
  file: FileRecord,
  skips: string[],
  notes: string[],
): void {
  let failuresBefore = file.failures.length;
  parser.on("child", (child: Parser) => {
    failuresBefore = file.failures.length;
    follow(child, [...path, child.name], file, skips, notes);
  });
  parser.on("comment", (line: string) => note(notes, line));
  parser.on("assert", (result: Result) => {
    const full = [...path, result.name];
    if (isSkipped(result)) skips.push(skipLine(file.name, full, result));
    // A test that failed by what is inside it has been reported by that.
    else if (!result.ok && file.failures.length === failuresBefore)
      file.failures.push({ file: file.name, path: full, details: describe(result.diag) });
    failuresBefore = file.failures.length;
  });
}

function closeFile(file: FileRecord, result: Result, skips: string[]): void {
  const hasNoTest = file.passed + file.failed + file.skipped === 0;
  if (result.skip !== false && result.skip !== true && result.skip !== noTests) {
    file.skipped += 1;
    skips.push(skipLine(file.name, [], result));
  } else if (result.ok && hasNoTest) fail(file, "it ran no test");
  else if (!result.ok && file.failed === 0) fail(file, "it failed without a failed test", result.diag);
}

function fail(file: FileRecord, reason: string, diag?: unknown): void {
  file.failed += 1;
  file.failures.push({ file: file.name, path: [], details: [reason, ...describe(diag)] });
}

/** Also one that is still to do: it has not shown that anything works. */
function isSkipped({ skip, todo }: Result): boolean {
  return skip !== false || todo !== false;
}

function skipLine(file: string, path: readonly string[], { skip, todo }: Result): string {
  const reason =
    typeof skip === "string" ? skip : typeof todo === "string" ? `to do: ${todo}` : "no reason given";
  return `${[file, ...path].join(": ")}: ${reason.replace(/^skipped: /, "")}`;
}

function note(notes: string[], line: string): void {
  const [, text] = notePattern.exec(line.trim()) ?? [];
  if (text !== undefined) notes.push(text);
}

/** tap's diagnostics without what repeats the source or the command line. */
function describe(diag: unknown): readonly string[] {
  if (typeof diag !== "object" || diag === null) return [];
  return Object.entries(diag).flatMap(([key, value]) => {
    if (["args", "command", "compare", "cwd", "externalID", "source", "stdio"].includes(key)) return [];
    if (key === "at" && isPosition(value)) return [`at ${value.fileName}:${value.lineNumber}`];
    const text = typeof value === "string" ? value.trimEnd() : JSON.stringify(value);
    return text.includes("\n")
      ? [`${key}:`, ...text.split("\n").map((line) => `  ${line}`)]
      : [`${key}: ${text}`];
  });
}

function isPosition(value: unknown): value is { readonly fileName: string; readonly lineNumber: number } {
  return typeof value === "object" && value !== null && "fileName" in value && "lineNumber" in value;
}
