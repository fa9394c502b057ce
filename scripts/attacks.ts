import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { z } from "zod";

// Writes the tables of docs/attacks.md from the results of the attack suite:
// ATTACK_RESULTS=DIR scripts/test attacks && node scripts/attacks.ts DIR

const documentPath = `${dirname(import.meta.dirname)}/docs/attacks.md`;

/** An attack's results, by the column's name in test/attacks/layers.ts: whether it succeeded. */
const resultsSchema = z.array(
  z.object({
    name: z.string(),
    isOnTheWire: z.boolean(),
    cells: z.record(z.string(), z.boolean()),
  }),
);
type Results = z.infer<typeof resultsSchema>;

const headings: Readonly<Record<string, string>> = {
  none: "no layer",
  all: "all",
  "-proof": "without proof (`address`)",
  "-lock": "without lock",
  iptables: "without lock, iptables and ebtables",
  "-lock-redirected": "without lock, redirected",
  "-lock-host": "without lock, host",
  "-lock-proof": "without lock, proof",
};

function table(results: Results, suites: readonly Results[]): readonly string[] {
  const columns = Object.keys(headings).filter((column) =>
    results.some(({ name }) => cell(suites, name, column) !== ""),
  );
  return [
    `| attack | ${columns.map((column) => headings[column]).join(" | ")} |`,
    `| --- |${" --- |".repeat(columns.length)}`,
    ...results.map(
      ({ name }) => `| ${name} | ${columns.map((column) => cell(suites, name, column)).join(" | ")} |`,
    ),
  ];
}

/** Of the first host where the attack was run. */
function cell(suites: readonly Results[], name: string, column: string): string {
  const succeeded = suites
    .map((results) => results.find((one) => one.name === name)?.cells[column])
    .find((one) => one !== undefined);
  if (succeeded === undefined) return "";
  if (!succeeded) return "nothing";
  return name.startsWith("read in transit") ? "**reads**" : "**gets**";
}

/** The document with these results between its markers. */
function withTables(document: string, suites: readonly Results[]): string {
  const [first = []] = suites;
  const tables = {
    identity: table(
      first.filter(({ isOnTheWire }) => !isOnTheWire),
      suites,
    ),
    wire: table(
      first.filter(({ isOnTheWire }) => isOnTheWire),
      suites,
    ),
  };
  return Object.entries(tables).reduce((text, [name, lines]) => {
    const marked = new RegExp(`(<!-- attacks: ${name} .*-->\n)[^]*?(<!-- end -->)`);
    if (!marked.test(text)) throw new Error(`docs/attacks.md has no markers for the table ${name}`);
    return text.replace(marked, (_, begin, end) => `${begin}\n${lines.join("\n")}\n\n${end}`);
  }, document);
}

if (import.meta.main) {
  const [, , directory] = process.argv;
  if (directory === undefined) throw new Error("usage: scripts/attacks.ts DIRECTORY_OF_RESULTS");
  const suites = ["bookworm", "trixie"].map((suite) =>
    resultsSchema.parse(JSON.parse(readFileSync(join(directory, `${suite}.json`), "utf8"))),
  );
  writeFileSync(documentPath, withTables(readFileSync(documentPath, "utf8"), suites));
}
