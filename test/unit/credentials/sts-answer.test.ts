import t from "tap";
import { judgeDocument } from "../../../src/credentials/sts-answer.ts";
import { foreignAnswers } from "../../support/aws/foreign-answers.ts";
import { busyMachineMs, mustBeUnavailable, realCache, sleep } from "./fixture.ts";

// In parallel: these tests wait most of the time.
t.jobs = 12;
for (const [name, { status }] of Object.entries(foreignAnswers)) {
  t.test(
    `${name} is not a refusal: 503 with Retry-After, the status in the log, no effect after it is over`,
    async (t) => {
      const { aws, lines, get } = await realCache(t);
      aws.sts.faults.set({ foreign: name });
      const first = mustBeUnavailable(await get("db"));
      t.ok(first.retryAfterMs >= 1_000 && first.retryAfterMs <= 5_000);
      t.match(String(first.documents.imds), /"Code" : "CredentialsUninitialized"/);
      const isLogged = () => lines.some(({ fields }) => fields.httpStatus === status);
      // At least three times; more often on a busy machine, where the first calls may time out.
      for (let tries = 0; tries < 3 || (tries < 40 && !isLogged()); tries++) {
        mustBeUnavailable(await get("db"));
        await sleep(300);
      }
      t.ok(isLogged(), `the log names status ${status}: ${JSON.stringify(lines)}`);
      t.notMatch(JSON.stringify(lines), /guest network|Proxy Auth/, "and the body is not logged");
      aws.sts.faults.set({});
      const over = performance.now();
      let answer = await get("db");
      while (answer.kind !== "credentials" && performance.now() - over < busyMachineMs)
        answer = await get("db");
      t.equal(answer.kind, "credentials", `served after ${Math.round(performance.now() - over)} ms`);
    },
  );
}

t.test(
  "many roles behind a WAF for a while: few calls, few log lines, all served within 5 s after it",
  async (t) => {
    const { aws, lines, get } = await realCache(t);
    const roles = Array.from({ length: 30 }, (_, index) => `role-${index}`);
    aws.sts.faults.set({ foreign: "html-403" });
    const until = performance.now() + 6_000;
    while (performance.now() < until)
      for (const answer of await Promise.all(roles.map(get))) mustBeUnavailable(answer);
    t.ok(aws.sts.counts().total < 80, `${aws.sts.counts().total} calls in 6 s`);
    t.ok(lines.length >= 1 && lines.length <= 3, `${lines.length} lines in 6 s`);
    t.ok(lines.every(({ fields }) => /HTTP status 403/.test(String(fields.reason))));
    aws.sts.faults.set({});
    const over = performance.now();
    const served = async (role: string) => {
      while ((await get(role)).kind !== "credentials")
        if (performance.now() - over > busyMachineMs) return false;
      return true;
    };
    t.ok((await Promise.all(roles.map(served))).every((isServed) => isServed));
    t.comment(
      `measured: all 30 served ${Math.round(performance.now() - over)} ms after STS itself answers again`,
    );
  },
);

const bare = (code: string) => `<ErrorResponse><Error><Code>${code}</Code></Error></ErrorResponse>`;
const own = (code: string, namespace = "https://sts.amazonaws.com/doc/2011-06-15/") =>
  bare(code).replace(">", ` xmlns="${namespace}">`);
const error = bare("AccessDenied");
for (const [what, status, text, expected] of [
  ["an error with a known code", 403, error, "ok"],
  [
    "an error with a byte-order mark and an XML declaration",
    400,
    `\uFEFF<?xml version="1.0" encoding="UTF-8"?>\n${error}\n`,
    "ok",
  ],
  ["a known code with 500", 500, error, "ok"],
  [
    "a known code in STS's namespace",
    403,
    error.replace(">", ' xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'),
    "ok",
  ],
  [
    "a known code in the front ends' namespace",
    400,
    error.replace(">", ' xmlns="http://webservices.amazon.com/AWSFault/2005-15-09">'),
    "ok",
  ],
  [
    "an error in another service's namespace",
    403,
    error.replace(">", ' xmlns="https://iam.amazonaws.com/doc/2010-05-08/">'),
    "foreign",
  ],
  ["an unknown code in STS's namespace", 403, own("SomethingThatStsSaysFromNextYearOn"), "ok"],
  [
    "a namespace whose host only begins like STS's",
    403,
    own("Forbidden", "https://sts.amazonaws.com.evil.example/doc/2011-06-15/"),
    "foreign",
  ],
  [
    "a namespace of another host",
    403,
    own("AccessDenied", "https://sts.evil.example/doc/2011-06-15/"),
    "foreign",
  ],
  [
    "a namespace with a character reference",
    403,
    own("AccessDenied", "&#104;ttps://sts.amazonaws.com/doc/2011-06-15/"),
    "foreign",
  ],
  [
    "an unknown code in the front ends' namespace",
    403,
    own("AuthorizationError", "http://webservices.amazon.com/AWSFault/2005-15-09"),
    "foreign",
  ],
  [
    "throttling by a front end",
    400,
    own("Throttling", "http://webservices.amazon.com/AWSFault/2005-15-09"),
    "ok",
  ],
  ["a bare Forbidden", 403, bare("Forbidden"), "foreign"],
  ["a bare RequestBlocked", 403, bare("RequestBlocked"), "foreign"],
  ["a bare NoSuchKey", 403, bare("NoSuchKey"), "foreign"],
  ["a bare RegionDisabledException", 403, bare("RegionDisabledException"), "ok"],
  ["a bare PackedPolicyTooLarge", 403, bare("PackedPolicyTooLarge"), "ok"],
  ["a bare ValidationError", 400, bare("ValidationError"), "ok"],
  ["a bare ExpiredToken", 403, bare("ExpiredToken"), "ok"],
  [
    "a namespace inside another attribute's value",
    403,
    bare("Forbidden").replace(">", ' a=" xmlns=" b="https://sts.amazonaws.com/doc/2011-06-15/">'),
    "foreign",
  ],
  [
    "a known code in a comment",
    403,
    bare("Forbidden").replace("<Error>", "<!-- <Error><Code>AccessDenied</Code></Error> --><Error>"),
    "foreign",
  ],
  [
    "two codes",
    403,
    bare("Forbidden").replace("<Code>", "<Detail><Code>AccessDenied</Code></Detail><Code>"),
    "foreign",
  ],
  ["an error without its end", 403, error.replace("</ErrorResponse>", ""), "cut"],
  ["a code with a space", 403, error.replace("AccessDenied", "Access Denied"), "foreign"],
  ["an error without a code", 403, error.replace("Code", "Kode"), "foreign"],
  ["an error inside another root", 403, `<a>${error}</a>`, "foreign"],
  ["an error with 200", 200, error, "foreign"],
  ["an error with 304", 304, error, "foreign"],
  ["a result with 403", 403, "<AssumeRoleResponse></AssumeRoleResponse>", "foreign"],
  ["a result with 200", 200, "<AssumeRoleResponse></AssumeRoleResponse>", "ok"],
  ["a result of another action", 200, "<AssumeRoleWithSAMLResponse></AssumeRoleWithSAMLResponse>", "foreign"],
  ["an empty result", 200, "<AssumeRoleResponse/>", "foreign"],
  ["an empty body", 403, "", "foreign"],
  ["an endless name", 403, `<${"a".repeat(60_000)}`, "foreign"],
  ["an endless XML declaration", 403, `<?xml ${" ".repeat(60_000)}`, "foreign"],
] as const) {
  t.test(`${what}, HTTP status ${status}: ${expected}`, async (t) => {
    t.equal(judgeDocument(status, text), expected, text.slice(0, 200));
  });
}
