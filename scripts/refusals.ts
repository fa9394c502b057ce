import { readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { callerRefusals, requestRefusals, roleRefusals, tokenRefusals } from "../src/imds/refusals.ts";

// Writes the tables of docs/refusals.md from src/imds/refusals.ts. A unit test fails while they differ.

export const documentPath = `${dirname(import.meta.dirname)}/docs/refusals.md`;

type Entry = { readonly status: number; readonly why: string };

/** By the name in the document's markers. */
const tables: Readonly<Record<string, readonly string[]>> = {
  role: [
    "| code | the container | what to do |",
    "| --- | --- | --- |",
    ...Object.entries(roleRefusals).map(([code, { why, fix }]) => `| \`${code}\` | ${why} | ${fix} |`),
  ],
  caller: byStatus(callerRefusals),
  token: byStatus(tokenRefusals),
  request: byStatus(requestRefusals),
};

function byStatus(section: Readonly<Record<string, Entry>>): readonly string[] {
  const rows = Object.entries(section).map(
    ([code, { status, why }]) => `| \`${code}\` | ${status} | ${why} |`,
  );
  return ["| code | status | why |", "| --- | --- | --- |", ...rows];
}

/** The document with the tables of today between its markers. */
export function withTables(document: string): string {
  return Object.entries(tables).reduce((text, [name, lines]) => {
    const marked = new RegExp(`(<!-- refusals: ${name} .*-->\n)[^]*?(<!-- end -->)`);
    if (!marked.test(text)) throw new Error(`docs/refusals.md has no markers for the table ${name}`);
    return text.replace(marked, (_, begin, end) => `${begin}\n${lines.join("\n")}\n\n${end}`);
  }, document);
}

if (import.meta.main) writeFileSync(documentPath, withTables(readFileSync(documentPath, "utf8")));
