import { readFileSync, writeFileSync } from "node:fs";
import { summarize } from "./tap/summary.ts";

/**
 * Prints what the tests of one suite came to, and writes the counts for scripts/test:
 *
 *     node scripts/tap-summary.ts SUITE SECONDS TAP_EXIT_STATUS TAP_FILE COUNTS_FILE
 *
 * The counts are one line, `PASSED FAILED SKIPPED`.
 */
const [suite = "", seconds = "", exitStatus = "", tapFile = "", countsFile = ""] = process.argv.slice(2);
const longestDetails = 60;

const summary = summarize(readFileSync(tapFile, "utf8"), Number(exitStatus));
const { passed, failed, skipped, failures, skips, notes } = summary;
const lines = [
  `${failed === 0 ? "ok    " : "FAILED"}  ${suite}: ${passed} passed, ${failed} failed, ${skipped} skipped, ${seconds} s`,
  ...skips.map((line) => `        skipped: ${line}`),
  ...notes.map((line) => `        ${line}`),
  ...failures.flatMap(({ file, path, details }) => [
    `    not ok: ${[file, path.join(" > ")].filter((part) => part !== "").join(": ")}`,
    ...details.slice(0, longestDetails).map((line) => `            ${line}`),
  ]),
];
process.stdout.write(`${lines.join("\n")}\n`);
writeFileSync(countsFile, `${passed} ${failed} ${skipped}\n`);
