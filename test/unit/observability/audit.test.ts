import t from "tap";
import type { RefusedRequest } from "../../../src/imds/refusals.ts";
import { openAudit } from "../../../src/observability/audit.ts";

/** An audit with a clock of its own, and what it wrote at info and above. */
function given() {
  let time = 1_000_000;
  const lines: { readonly fields: Readonly<Record<string, unknown>>; readonly message: string }[] = [];
  const say = (fields: Readonly<Record<string, unknown>>, message: string) =>
    void lines.push({ fields, message });
  const audit = openAudit({ debug: () => undefined, info: say, warn: say, error: say }, () => time);
  const refusal = (address: string, more: Partial<RefusedRequest> = {}): RefusedRequest => ({
    status: 403,
    code: "unknown-caller",
    reason: "no running container has this address",
    address,
    caller: undefined,
    path: "",
    ...more,
  });
  const pass = (ms: number) => {
    time += ms;
  };
  return { audit, lines, refusal, pass };
}

t.test("a stranger's refusals are one line a minute, and its path is shown where one was read", async (t) => {
  const { audit, lines, refusal, pass } = given();
  for (let nth = 0; nth < 100; nth++) audit.refused(refusal("10.0.0.1"));
  t.equal(lines.length, 1);
  t.notOk(Object.hasOwn(lines[0]?.fields ?? {}, "path"));
  audit.refused(refusal("10.0.0.2", { path: "/latest/api/token" }));
  t.equal(lines[1]?.fields.path, "/latest/api/token");
  pass(61_000);
  audit.refused(refusal("10.0.0.1"));
  t.equal(lines.length, 3);
  t.equal(audit.counts().refused, 102);
  t.equal(audit.refusals().get("unknown-caller"), 102);
});

t.test("a flood of made-up addresses fills neither the journal nor the memory, and is told of", async (t) => {
  const { audit, lines, refusal, pass } = given();
  for (let minute = 0; minute < 5; minute++) {
    for (let nth = 0; nth < 20_000; nth++) audit.refused(refusal(`10.${minute}.${nth >> 8}.${nth & 255}`));
    pass(61_000);
  }
  t.ok(lines.length <= 5 * 65, `${lines.length} lines for 100,000 refusals`);
  const summaries = lines.filter(({ fields }) => fields.refusals !== undefined);
  t.equal(summaries.length, 4, "each minute says how many were not shown, when the next comes");
  t.match(summaries[0]?.fields.refusals, 20_000 - 64);
  t.equal(audit.counts().refused, 100_000);
});
