import t from "tap";
import type { RefusedRequest } from "../../../src/imds/refusals.ts";
import { openAudit } from "../../../src/observability/audit.ts";

/** An audit with its own clock, and the lines that it logged at info and above. */
function fixture() {
  let time = 1_000_000;
  const lines: { readonly fields: Readonly<Record<string, unknown>>; readonly message: string }[] = [];
  const record = (fields: Readonly<Record<string, unknown>>, message: string) =>
    void lines.push({ fields, message });
  const audit = openAudit({ debug: () => undefined, info: record, warn: record, error: record }, () => time);
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

t.test("an unknown address's refusals are one line a minute, with the path if one was read", async (t) => {
  const { audit, lines, refusal, pass } = fixture();
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
  pass(5_000);
  t.same(audit.stranger(), { address: "10.0.0.1", agoMs: 5_000 });
});

t.test(
  "a flood of forged addresses fills neither the journal nor memory, and is counted in the log",
  async (t) => {
    const { audit, lines, refusal, pass } = fixture();
    for (let minute = 0; minute < 5; minute++) {
      for (let nth = 0; nth < 20_000; nth++) audit.refused(refusal(`10.${minute}.${nth >> 8}.${nth & 255}`));
      pass(61_000);
    }
    t.ok(lines.length <= 5 * 65, `${lines.length} lines for 100,000 refusals`);
    const summaries = lines.filter(({ fields }) => fields.refusals !== undefined);
    t.equal(summaries.length, 4, "the first refusal after each minute logs how many were suppressed");
    t.match(summaries[0]?.fields.refusals, 20_000 - 64);
    t.equal(audit.counts().refused, 100_000);
  },
);
