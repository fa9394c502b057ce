import t, { type Test } from "tap";
import { keyOf } from "../../../src/credentials/assume-role.ts";
import { type CacheAnswer, CredentialCache } from "../../../src/credentials/cache.ts";
import { openSts } from "../../../src/credentials/sts.ts";
import { judgeDocument } from "../../../src/credentials/sts-answer.ts";
import { MetadataClient } from "../../../src/metadata/client.ts";
import { account } from "../../support/aws/account.ts";
import { type AwsOptions, startAws } from "../../support/aws/aws.ts";
import type { StsFaults } from "../../support/aws/faults.ts";
import { foreignAnswers } from "../../support/aws/foreign-answers.ts";
import { keptLog, roleRequest } from "./fixture.ts";

/** The cache with the real SDK in front of the stand-in, in real time. */
async function given(t: Test, options: { assumeFirst?: string; aws?: AwsOptions; requestMs?: number } = {}) {
  const aws = await startAws(options.aws);
  const { log, lines } = keptLog();
  const clocks = { now: () => performance.timeOrigin + performance.now(), wallNow: Date.now };
  const metadata = new MetadataClient({ endpoint: aws.imds.url, now: Date.now });
  t.teardown(() => metadata.close());
  const sts = openSts({
    metadata,
    region: undefined,
    endpoint: aws.sts.url,
    hostKeys: undefined,
    assumeFirst: options.assumeFirst,
    useFips: false,
    useDualstack: false,
    proxyEnvironment: {},
    log,
    ...clocks,
    timeouts: { requestMs: options.requestMs ?? 1_000 },
  });
  const cache = new CredentialCache({
    assumeRole: sts.assumeRole,
    ...clocks,
    random: Math.random,
    schedule: (delayMs, run) => {
      const timer = setTimeout(run, delayMs);
      return () => clearTimeout(timer);
    },
    log,
  });
  t.teardown(async () => {
    cache.close();
    sts.close();
    await aws.stop();
  });
  const ask = (role: string) => cache.get(role, keyOf(roleRequest(role)), roleRequest(role));
  return { aws, cache, sts, lines, ask };
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

function unavailable(answer: CacheAnswer) {
  if (answer.kind === "unavailable") return answer;
  throw new Error(`expected no credentials for the moment, got ${answer.kind}`);
}

/** Five seconds are promised, and kept on a machine that does nothing else. What is told apart here is a pause of minutes. */
const busyMachineMs = 20_000;

// At once: each of them waits most of the time.
t.jobs = 12;
for (const [name, { status }] of Object.entries(foreignAnswers)) {
  t.test(
    `${name} is no refusal: 503 with Retry-After, the status in the log, over when it is over`,
    async (t) => {
      const { aws, lines, ask } = await given(t);
      aws.sts.faults.set({ foreign: name });
      const first = unavailable(await ask("db"));
      t.ok(first.retryAfterMs >= 1_000 && first.retryAfterMs <= 5_000);
      t.match(String(first.documents.imds), /"Code" : "CredentialsUninitialized"/);
      const said = () => lines.some(({ fields }) => fields.httpStatus === status);
      // Three times at least; more on a busy machine, where the first calls may time out.
      for (let tries = 0; tries < 3 || (tries < 40 && !said()); tries++) {
        unavailable(await ask("db"));
        await sleep(300);
      }
      t.ok(said(), `the log names status ${status}: ${JSON.stringify(lines)}`);
      t.notMatch(JSON.stringify(lines), /guest network|Proxy Auth/, "and nothing of the body");
      aws.sts.faults.set({});
      const over = performance.now();
      let answer = await ask("db");
      while (answer.kind !== "credentials" && performance.now() - over < busyMachineMs)
        answer = await ask("db");
      t.equal(answer.kind, "credentials", `served after ${Math.round(performance.now() - over)} ms`);
    },
  );
}

t.test("many roles behind a WAF for a while: few calls, few lines, all are back within 5 s", async (t) => {
  const { aws, lines, ask } = await given(t);
  const roles = Array.from({ length: 30 }, (_, index) => `role-${index}`);
  aws.sts.faults.set({ foreign: "html-403" });
  const until = performance.now() + 6_000;
  while (performance.now() < until)
    for (const answer of await Promise.all(roles.map(ask))) unavailable(answer);
  t.ok(aws.sts.counts().total < 80, `${aws.sts.counts().total} calls in 6 s`);
  t.ok(lines.length >= 1 && lines.length <= 3, `${lines.length} lines in 6 s`);
  t.ok(lines.every(({ fields }) => /HTTP status 403/.test(String(fields.reason))));
  aws.sts.faults.set({});
  const over = performance.now();
  const served = async (role: string) => {
    while ((await ask(role)).kind !== "credentials")
      if (performance.now() - over > busyMachineMs) return false;
    return true;
  };
  t.ok((await Promise.all(roles.map(served))).every((isServed) => isServed));
  t.comment(
    `measured: all 30 served ${Math.round(performance.now() - over)} ms after STS itself answers again`,
  );
});

const past = { expiration: "-60" };
const unusable: readonly (readonly [string, Partial<StsFaults>, RegExp])[] = [
  ["a minute past their end", past, /expired (59|60) s before/],
  ["a second past their end", { expiration: "-1" }, /expired/],
  ["an expiration of 1970", { expiration: "1970-01-01T00:00:00Z" }, /expired/],
  ["3 s before their end", { expiration: "+3" }, /expire [2-4] s after/],
  ["ten years to live", { expiration: "+315360000" }, /no session of STS lives so long/],
  ["a day to live", { expiration: "+86400" }, /no session of STS lives so long/],
  ["no expiration", { expiration: "none" }, /no readable expiration/],
  ["an expiration that is no time", { expiration: "tomorrow" }, /./],
  ["an empty expiration", { expiration: " " }, /./],
  [
    "a clock two hours ahead, and dead by it",
    { ...past, clockSkewSeconds: 7_200 },
    /expired (59|60) s before/,
  ],
  ["no Date header", { ...past, noDate: true }, /expired/],
  [
    "another role",
    { answerFor: `arn:aws:sts::${account.id}:assumed-role/admin/session` },
    /is for another role than/,
  ],
  [
    "another account",
    { answerFor: "arn:aws:sts::999999999999:assumed-role/dead/session" },
    /is for another role than/,
  ],
  [
    "another partition",
    { answerFor: `arn:aws-cn:sts::${account.id}:assumed-role/dead/session` },
    /is for another role than/,
  ],
  [
    "another session",
    { answerFor: `arn:aws:sts::${account.id}:assumed-role/dead/other` },
    /is for another session/,
  ],
  ["a user", { answerFor: `arn:aws:iam::${account.id}:user/dead` }, /is for another role than/],
];
for (const [what, faults, reason] of unusable) {
  t.test(`credentials with ${what} are not handed out, and are asked for again with a pause`, async (t) => {
    const { aws, lines, ask } = await given(t);
    aws.sts.faults.set(faults);
    const said = () =>
      lines.some(({ level, fields }) => level === "warn" && reason.test(String(fields.reason)));
    const began = performance.now();
    // Some seconds; on a machine that is busy with other tests until the log has its line.
    while (performance.now() - began < 3_000 || (!said() && performance.now() - began < 15_000))
      unavailable(await ask("dead"));
    const seconds = (performance.now() - began) / 1000;
    t.ok(aws.sts.counts().total <= 5 + seconds, `${aws.sts.counts().total} calls in ${seconds.toFixed(1)} s`);
    t.ok(said(), JSON.stringify(lines));
    aws.sts.faults.set({});
    const over = performance.now();
    while ((await ask("dead")).kind !== "credentials") if (performance.now() - over > 5_000) break;
    t.match(await ask("dead"), { kind: "credentials" });
  });
}

t.test("four containers with dead credentials: the calls of 10 s are few", async (t) => {
  const { aws, ask } = await given(t);
  aws.sts.faults.set(past);
  const until = performance.now() + 10_000;
  await Promise.all(
    ["a", "b", "c", "d"].map(async (role) => {
      while (performance.now() < until) unavailable(await ask(role));
    }),
  );
  t.ok(aws.sts.counts().total <= 25, `${aws.sts.counts().total} calls in 10 s`);
});

t.test("a renewal that brings dead credentials leaves the living ones in use", async (t) => {
  const { aws, cache, ask } = await given(t);
  aws.sts.faults.set({ sessionSeconds: 15 });
  const first = await ask("db");
  if (first.kind !== "credentials") throw new Error(first.kind);
  aws.sts.faults.set(past);
  await sleep(11_000);
  t.ok(cache.stats().calls.temporary > 0, "a renewal was tried");
  t.ok(cache.stats().calls.temporary < 12, `${cache.stats().calls.temporary} times`);
  t.equal(await ask("db"), first);
});

t.test("a first hop whose credentials are dead on arrival is not asked for in a loop", async (t) => {
  const assumeFirst = `arn:aws:iam::${account.id}:role/hop`;
  const { aws, lines, ask } = await given(t, { assumeFirst });
  aws.sts.faults.setFor(assumeFirst, past);
  const until = performance.now() + 5_000;
  await Promise.all(
    ["a", "b", "c", "d"].map(async (role) => {
      while (performance.now() < until) unavailable(await ask(role));
    }),
  );
  t.ok(aws.sts.counts().total <= 15, `${aws.sts.counts().total} calls in 5 s`);
  t.match(lines[0], { fields: { reason: /expired (59|60) s before/ } });
});

t.test(
  "a host whose own credentials are expired: no loop, at STS or at IMDS, and the reason says so",
  async (t) => {
    const { aws, lines, ask } = await given(t);
    aws.imds.credentials.rotate(-60_000);
    const until = performance.now() + 6_000;
    await Promise.all(
      ["a", "b", "c", "d"].map(async (role) => {
        while (performance.now() < until) unavailable(await ask(role));
      }),
    );
    t.ok(aws.sts.counts().total <= 25, `${aws.sts.counts().total} calls in 6 s`);
    t.ok(aws.imds.requests.total <= 12, `${aws.imds.requests.total} requests to IMDS in 6 s`);
    t.match(JSON.stringify(lines), /the host's credentials at .* expired 6\d s ago/);
    aws.imds.credentials.rotate();
    const over = performance.now();
    let answer = await ask("a");
    while (answer.kind !== "credentials" && performance.now() - over < busyMachineMs) answer = await ask("a");
    t.equal(answer.kind, "credentials", `served after ${Math.round(performance.now() - over)} ms`);
  },
);

for (const faults of [{ bodyDelayMs: 30_000 }, { hang: true }]) {
  t.test(`${Object.keys(faults)[0]}: given up in time and tried again`, async (t) => {
    const { aws, ask } = await given(t, { requestMs: 500 });
    aws.sts.faults.set(faults);
    unavailable(await ask("db"));
    await sleep(1_500);
    t.ok(aws.sts.counts().total >= 2, "it was tried again");
    aws.sts.faults.set({});
    const over = performance.now();
    while ((await ask("db")).kind !== "credentials") if (performance.now() - over > 5_000) break;
    t.ok(performance.now() - over < 4_000);
  });
}

t.test("what counts as an answer of STS", async (t) => {
  const bare = (code: string) => `<ErrorResponse><Error><Code>${code}</Code></Error></ErrorResponse>`;
  const own = (code: string, namespace = "https://sts.amazonaws.com/doc/2011-06-15/") =>
    bare(code).replace(">", ` xmlns="${namespace}">`);
  const error = bare("AccessDenied");
  for (const [status, text, judged] of [
    [403, error, "ok"],
    [400, `\uFEFF<?xml version="1.0" encoding="UTF-8"?>\n${error}\n`, "ok"],
    [500, error, "ok"],
    [403, error.replace(">", ' xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'), "ok"],
    [400, error.replace(">", ' xmlns="http://webservices.amazon.com/AWSFault/2005-15-09">'), "ok"],
    [403, error.replace(">", ' xmlns="https://iam.amazonaws.com/doc/2010-05-08/">'), "foreign"],
    [403, own("SomethingThatStsSaysFromNextYearOn"), "ok"],
    [403, own("Forbidden", "https://sts.amazonaws.com.evil.example/doc/2011-06-15/"), "foreign"],
    [403, own("AccessDenied", "https://sts.evil.example/doc/2011-06-15/"), "foreign"],
    [403, own("AccessDenied", "&#104;ttps://sts.amazonaws.com/doc/2011-06-15/"), "foreign"],
    [403, own("AuthorizationError", "http://webservices.amazon.com/AWSFault/2005-15-09"), "foreign"],
    [400, own("Throttling", "http://webservices.amazon.com/AWSFault/2005-15-09"), "ok"],
    [403, bare("Forbidden"), "foreign"],
    [403, bare("RequestBlocked"), "foreign"],
    [403, bare("NoSuchKey"), "foreign"],
    [403, bare("RegionDisabledException"), "ok"],
    [403, bare("PackedPolicyTooLarge"), "ok"],
    [400, bare("ValidationError"), "ok"],
    [403, bare("ExpiredToken"), "ok"],
    [
      403,
      bare("Forbidden").replace(">", ' a=" xmlns=" b="https://sts.amazonaws.com/doc/2011-06-15/">'),
      "foreign",
    ],
    [
      403,
      bare("Forbidden").replace("<Error>", "<!-- <Error><Code>AccessDenied</Code></Error> --><Error>"),
      "foreign",
    ],
    [403, bare("Forbidden").replace("<Code>", "<Detail><Code>AccessDenied</Code></Detail><Code>"), "foreign"],
    [403, error.replace("</ErrorResponse>", ""), "cut"],
    [403, error.replace("AccessDenied", "Access Denied"), "foreign"],
    [403, error.replace("Code", "Kode"), "foreign"],
    [403, `<a>${error}</a>`, "foreign"],
    [200, error, "foreign"],
    [304, error, "foreign"],
    [403, "<AssumeRoleResponse></AssumeRoleResponse>", "foreign"],
    [200, "<AssumeRoleResponse></AssumeRoleResponse>", "ok"],
    [200, "<AssumeRoleWithSAMLResponse></AssumeRoleWithSAMLResponse>", "foreign"],
    [200, "<AssumeRoleResponse/>", "foreign"],
    [403, "", "foreign"],
    [403, `<${"a".repeat(60_000)}`, "foreign"],
    [403, `<?xml ${" ".repeat(60_000)}`, "foreign"],
  ] as const)
    t.equal(judgeDocument(status, text), judged, `${status} ${text.slice(0, 200)}`);
});
