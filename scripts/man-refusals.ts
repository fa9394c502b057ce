import { readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { failureSections } from "../src/credentials/failures.ts";
import { callerRefusals, requestRefusals, roleRefusals, tokenRefusals } from "../src/imds/refusals.ts";
import { logCodeSections } from "../src/log-codes.ts";
import { prose, roff } from "./roff.ts";

// Writes the manual page of the codes to the path in its argument: docs/man/ec2metaproxy-refusals.7.in with
// the tables of refusals.ts, failures.ts and log-codes.ts.

/** One entry of a table, with its texts as sentences. */
function item(code: string, tag: string, texts: readonly string[]): readonly string[] {
  return [`.It Cm ${roff(code)}${tag === "" ? "" : ` No ${roff(tag)}`}`, ...texts.map(sentence)];
}

function sentence(text: string): string {
  const [first = ""] = text;
  // Not a name in backquotes, which keeps its letter case.
  const begun = /^[a-z]+\b(?![.A-Z])/.test(text) ? first.toUpperCase() + text.slice(1) : text;
  return prose(/[.]$/.test(begun) ? begun : `${begun}.`);
}

type Refusals = Readonly<Record<string, { readonly status: number; readonly why: string }>>;

const byStatus = (section: Refusals) =>
  Object.entries(section).flatMap(([code, { status, why }]) => item(code, `(${status})`, [why]));

const sections: Readonly<Record<string, readonly string[]>> = {
  ROLE: Object.entries(roleRefusals).flatMap(([code, { why, fix }]) =>
    item(code, "", [`the container ${why}`, `what to do: ${fix}`]),
  ),
  CALLER: byStatus(callerRefusals),
  TOKEN: byStatus(tokenRefusals),
  REQUEST: byStatus(requestRefusals),
  ...Object.fromEntries(
    Object.entries(failureSections).map(([name, section]) => [
      name.toUpperCase(),
      Object.entries(section).flatMap(([code, { cause, cure }]) => item(code, "", [cause, cure])),
    ]),
  ),
  ...Object.fromEntries(
    Object.entries(logCodeSections).map(([name, section]) => [
      name.toUpperCase(),
      Object.entries(section).flatMap(([code, { level, why, fix }]) =>
        item(code, `(${level})`, [why, `what to do: ${fix}`]),
      ),
    ]),
  ),
};

const [to] = process.argv.slice(2);
if (to === undefined)
  throw new Error("writing the manual page of the codes: the first argument must be the output path");
const page = readFileSync(`${dirname(import.meta.dirname)}/docs/man/ec2metaproxy-refusals.7.in`, "utf8");
writeFileSync(
  to,
  page.replace(/^@([A-Z]+)@$/gm, (_, name: string) => {
    const lines = sections[name];
    if (lines === undefined) throw new Error(`writing the manual page of the codes: no section ${name}`);
    return lines.join("\n");
  }),
);
