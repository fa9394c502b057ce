import t from "tap";
import { account } from "../../support/aws/account.ts";
import type { StsFaults } from "../../support/aws/faults.ts";
import { mustBeUnavailable, realCache, sleep } from "./fixture.ts";

// In parallel: these tests wait most of the time.
t.jobs = 12;
const past = { expiration: "-60" };
const unusable: readonly (readonly [string, Partial<StsFaults>, RegExp])[] = [
  ["an expiration a minute ago", past, /expired (59|60) s before/],
  ["an expiration a second ago", { expiration: "-1" }, /expired/],
  ["an expiration of 1970", { expiration: "1970-01-01T00:00:00Z" }, /expired/],
  ["3 s left", { expiration: "+3" }, /expire [2-4] s after/],
  ["ten years left", { expiration: "+315360000" }, /longer than any STS session/],
  ["a day left", { expiration: "+86400" }, /longer than any STS session/],
  ["no expiration", { expiration: "none" }, /no readable expiration/],
  ["an expiration that is not a time", { expiration: "tomorrow" }, /./],
  ["an empty expiration", { expiration: " " }, /./],
  [
    "an expiration a minute ago, by a clock two hours ahead",
    { ...past, clockSkewSeconds: 7_200 },
    /expired (59|60) s before/,
  ],
  ["an expiration a minute ago and no Date header", { ...past, noDate: true }, /expired/],
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
  t.test(`credentials with ${what} are not served, and the call is repeated after a pause`, async (t) => {
    const { aws, lines, get } = await realCache(t);
    aws.sts.faults.set(faults);
    const isLogged = () =>
      lines.some(({ level, fields }) => level === "warn" && reason.test(String(fields.reason)));
    const began = performance.now();
    // Some seconds; on a machine that is busy with other tests, until the line is logged.
    while (performance.now() - began < 3_000 || (!isLogged() && performance.now() - began < 15_000))
      mustBeUnavailable(await get("dead"));
    const seconds = (performance.now() - began) / 1000;
    t.ok(aws.sts.counts().total <= 5 + seconds, `${aws.sts.counts().total} calls in ${seconds.toFixed(1)} s`);
    t.ok(isLogged(), JSON.stringify(lines));
    aws.sts.faults.set({});
    const over = performance.now();
    while ((await get("dead")).kind !== "credentials") if (performance.now() - over > 5_000) break;
    t.match(await get("dead"), { kind: "credentials" });
  });
}

t.test("four containers with expired credentials: few calls in 10 s", async (t) => {
  const { aws, get } = await realCache(t);
  aws.sts.faults.set(past);
  const until = performance.now() + 10_000;
  await Promise.all(
    ["a", "b", "c", "d"].map(async (role) => {
      while (performance.now() < until) mustBeUnavailable(await get(role));
    }),
  );
  t.ok(aws.sts.counts().total <= 25, `${aws.sts.counts().total} calls in 10 s`);
});

t.test("a renewal that brings expired credentials leaves the valid ones in use", async (t) => {
  const { aws, cache, get } = await realCache(t);
  aws.sts.faults.set({ sessionSeconds: 15 });
  const first = await get("db");
  if (first.kind !== "credentials") throw new Error(first.kind);
  aws.sts.faults.set(past);
  await sleep(11_000);
  t.ok(cache.stats().calls.temporary > 0, "a renewal was tried");
  t.ok(cache.stats().calls.temporary < 12, `${cache.stats().calls.temporary} times`);
  t.equal(await get("db"), first);
});
