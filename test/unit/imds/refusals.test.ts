import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { documentPath, withTables } from "../../../scripts/refusals.ts";
import { errorAnswers, tokenMethodAnswer } from "../../../src/imds/answers.ts";
import { type RefusalCode, refusalAnswer, refusals } from "../../../src/imds/refusals.ts";

const codes = Object.keys(refusals) as RefusalCode[]; // its own keys
const document = readFileSync(documentPath, "utf8");

t.test("docs/refusals.md has the tables of refusals.ts; `make refusals` writes them", async (t) => {
  t.equal(document, withTables(document));
});

t.test("docs/refusals.md lists every code that a request can be refused with", async (t) => {
  const documented = [...document.matchAll(/^\| (`.*?) \|/gm)].flatMap(([, cell = ""]) =>
    [...cell.matchAll(/`([a-z0-9-]+)`/g)].map(([, code]) => code),
  );
  for (const code of codes) t.ok(documented.includes(code), code);
  t.equal(new Set(documented).size, documented.length, "each once");
});

t.test("every code is used", async (t) => {
  const source = join(import.meta.dirname, "../../../src");
  const text = readdirSync(source, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts") && file !== "imds/refusals.ts")
    .map((file) => readFileSync(join(source, file), "utf8"))
    .join("\n");
  for (const code of codes) t.ok(text.includes(`"${code}"`), code);
});

t.test("a refused request is answered with the status of its code", async (t) => {
  for (const code of codes) {
    const answer = refusalAnswer(code);
    t.equal(answer.status, refusals[code].status, code);
    t.equal(answer, code === "token-method" ? tokenMethodAnswer : errorAnswers[answer.status as 403], code); // each has a page
  }
});

t.test("a caller that may be served in a moment gets 503, which SDKs retry, and not 403", async (t) => {
  const refused = codes.filter((code) => refusals[code].status === 403);
  t.same(refused, [
    "unknown-caller",
    "address-conflict",
    "no-such-socket",
    "client-closed",
    "port-listening",
    "token-version",
    "forwarded",
    "host",
  ]);
});
