import t from "tap";
import { AssumeRoleError } from "../../../src/credentials/assume-role.ts";
import { accessDenied, givenCache, roleRequest, watch } from "./fixture.ts";

const minute = 60_000;

t.test("a refusal is remembered for longer each time, logged once, and over when IAM says yes", async (t) => {
  let denied = true;
  const { time, sts, lines, ask, cache } = givenCache({
    sts: { fault: () => (denied ? accessDenied : undefined) },
  });
  const request = roleRequest("db");
  const first = watch(ask("c", request));
  await time.runFor(60);
  t.match(first.value, { kind: "refused", code: "AssumeRoleUnauthorizedAccess" });
  t.equal(ask("c", request), first.value, "the second client is told at once");

  const callsAt: number[] = [];
  const start = time.now();
  for (let second = 0; second < 30 * 60; second++) {
    await time.runFor(1_000);
    ask("c", request);
    if (sts.total > callsAt.length) callsAt.push((time.now() - start) / 1000);
  }
  const pauses = callsAt.slice(1).map((at, index) => at - (callsAt[index] ?? 0));
  t.ok((pauses[0] ?? 0) <= 8 && (pauses[1] ?? 0) > (pauses[0] ?? 0), `pauses grow: ${pauses.join(", ")}`);
  t.ok(Math.max(...pauses) <= 370);
  t.equal(lines.length, 1, "one line in half an hour of asking");
  t.match(lines[0], { level: "warn", fields: { code: "AccessDenied", stillValid: false } });

  denied = false;
  await time.runFor(6 * minute);
  const last = watch(ask("c", request));
  await time.runFor(100);
  t.match(last.value, { kind: "credentials" });
  t.equal(lines.length, 2);
  t.match(lines[1], { level: "info" });
  cache.close();
});

t.test(
  "a refused renewal leaves the credentials in use until they expire; then the refusal is the answer",
  async (t) => {
    let denied = false;
    const { time, lines, ask, want, cache } = givenCache({
      sts: { fault: () => (denied ? accessDenied : undefined) },
    });
    const request = roleRequest("db");
    want("c", request);
    await time.runFor(minute);
    denied = true;
    await time.runFor(58 * minute);
    t.match(ask("c", request), { kind: "credentials" });
    await time.runFor(30 * minute);
    const after = watch(ask("c", request));
    await time.runFor(100);
    t.match(after.value, { kind: "refused", code: "AssumeRoleUnauthorizedAccess" });
    t.equal(lines.filter((line) => line.level === "warn").length, 1);
    cache.close();
  },
);

t.test(
  "in an outage credentials are served until they expire, then 503, and 5 s after its end all is well",
  async (t) => {
    let down = false;
    const { time, sts, lines, ask, want, cache } = givenCache({
      sts: { fault: () => (down ? "down" : undefined) },
    });
    const requests = Array.from({ length: 100 }, (_, index) => roleRequest("role", `c${index}`));
    for (const request of requests) want(request.sessionName, request);
    await time.runFor(minute);
    down = true;
    await time.runFor(9 * minute);
    for (const request of requests) t.match(ask(request.sessionName, request), { kind: "credentials" });

    await time.runFor(75 * minute);
    const before = sts.total;
    const waiting = requests.map((request) => watch(ask(request.sessionName, request)));
    await time.runFor(minute);
    for (const { value } of waiting)
      t.match(value, { kind: "unavailable", code: "CredentialsUninitialized" });
    t.match(
      String(waiting[0]?.value?.kind === "unavailable" && waiting[0].value.documents.imds),
      /"Code" : "Creden/,
    );
    t.ok(sts.total - before <= 45, `${sts.total - before} probes in a minute`);
    t.equal(cache.stats().state, "down");

    down = false;
    await time.runFor(5_000);
    const served = requests.filter((request) => !(ask(request.sessionName, request) instanceof Promise));
    t.equal(served.length, 100);
    t.equal(lines.filter((line) => line.message.startsWith("STS does not answer")).length, 1);
    t.equal(lines.filter((line) => line.message.startsWith("STS answers again")).length, 1);
    cache.close();
  },
);

t.test("a single role on a host is back within 5 s of an outage's end too", async (t) => {
  let down = true;
  const { time, ask, cache } = givenCache({ sts: { fault: () => (down ? "down" : undefined) } });
  ask("c", roleRequest("db"));
  await time.runFor(20 * minute);
  down = false;
  await time.runFor(5_000);
  t.match(ask("c", roleRequest("db")), { kind: "credentials" });
  cache.close();
});

t.test("one role's hang delays no other, and a hundred roles' hangs neither", async (t) => {
  for (const hanging of [1, 100]) {
    const { time, ask, cache } = givenCache({
      sts: { fault: (arn) => (arn.includes("hang") ? "hang" : undefined) },
    });
    for (let index = 0; index < hanging; index++) ask(`h${index}`, roleRequest(`hang-${index}`));
    await time.runFor(2_500);
    const others = Array.from({ length: 20 }, (_, index) =>
      watch(ask(`c${index}`, roleRequest("db", `c${index}`))),
    );
    await time.runFor(60);
    t.equal(
      others.filter(({ value }) => value?.kind === "credentials").length,
      20,
      `with ${hanging} hanging`,
    );
    cache.close();
  }
});

t.test("a call that never ends is given up after its deadline and made again", async (t) => {
  let hang = true;
  const { time, sts, ask, cache } = givenCache({ sts: { fault: () => (hang ? "hang" : undefined) } });
  ask("c", roleRequest("db"));
  await time.runFor(9_900);
  t.equal(sts.total, 1);
  hang = false;
  await time.runFor(400);
  t.match(ask("c", roleRequest("db")), { kind: "credentials" });
  cache.close();
});

t.test("whom a client waits for goes before what nobody waits for", async (t) => {
  const { time, ask, want, cache } = givenCache({ limits: { callsInFlight: 1 } });
  for (let index = 0; index < 100; index++) want(`c${index}`, roleRequest("role", `c${index}`));
  const asked = watch(ask("late", roleRequest("role", "late")));
  await time.runFor(110);
  t.match(asked.value, { kind: "credentials" }, "the second call was for it");
  t.ok(cache.stats().cold > 90);
  const promoted = watch(ask("c99", roleRequest("role", "c99")));
  await time.runFor(110);
  t.match(
    promoted.value,
    { kind: "credentials" },
    "and so was the one for a prefetch that is now waited for",
  );
  cache.close();
});

t.test("throttling slows the whole broker down, once, and it finds its way back", async (t) => {
  const { time, sts, lines, want, cache } = givenCache({ sts: { callsPerSecond: 20 } });
  for (let index = 0; index < 500; index++) want(`c${index}`, roleRequest("role", `c${index}`));
  await time.runFor(5_000);
  t.equal(cache.stats().state, "throttled");
  t.ok(cache.stats().callsPerSecond < 60);
  await time.runFor(60_000);
  t.equal(cache.stats().warm, 500);
  t.ok(sts.throttled < 250, `${sts.throttled} of ${sts.total} calls were throttled`);
  await time.runFor(5 * minute);
  t.equal(cache.stats().state, "normal");
  t.equal(lines.length, 2, "one line when it begins, one when it ends");
  cache.close();
});

t.test("a temporary failure is mended within the time that a client is held", async (t) => {
  let failures = 2;
  const { time, ask, cache } = givenCache({ sts: { fault: () => (failures-- > 0 ? "down" : undefined) } });
  const waiting = watch(ask("c", roleRequest("db")));
  await time.runFor(800);
  t.match(waiting.value, { kind: "credentials" });
  cache.close();
});

t.test(
  "an STS client that breaks its promise does not break the cache, and its words stay unsaid",
  async (t) => {
    const { time, lines, ask, cache } = givenCache({
      sts: {
        fault: () => {
          throw new TypeError("<SecretAccessKey>leaked</SecretAccessKey>");
        },
      },
    });
    const waiting = watch(ask("c", roleRequest("db")));
    await time.runFor(5_000);
    t.match(waiting.value, { kind: "unavailable" });
    t.notMatch(JSON.stringify([waiting.value, lines]), /leaked/);
    cache.close();
  },
);

for (const { code, status, shown, saysWhy } of [
  { code: "AccessDenied", status: 403, shown: "AssumeRoleUnauthorizedAccess", saysWhy: false },
  { code: "MalformedPolicyDocument", status: 400, shown: "MalformedPolicyDocument", saysWhy: true },
  { code: "PackedPolicyTooLarge", status: 400, shown: "PackedPolicyTooLarge", saysWhy: true },
  { code: "RegionDisabledException", status: 403, shown: "RegionDisabledException", saysWhy: false },
  { code: "ValidationError", status: 400, shown: "ValidationError", saysWhy: false },
]) {
  t.test(`${code} is answered as ${shown}`, async (t) => {
    const error = new AssumeRoleError("refused", code, "words of STS about i-0abc", status);
    const { time, ask, cache } = givenCache({ sts: { fault: () => error } });
    const asked = watch(ask("c", roleRequest("db")));
    await time.runFor(60);
    const { value } = asked;
    if (value?.kind !== "refused") throw new Error(`got ${value?.kind}`);
    t.equal(value.code, shown);
    t.equal(value.message.includes("i-0abc"), saysWhy);
    t.match(JSON.parse(String(value.documents.imds)), {
      Code: shown,
      Message: value.message,
      LastUpdated: /Z$/,
    });
    t.match(JSON.parse(String(value.documents.container)), { code: shown, Code: shown, HTTPErrorCode: 403 });
    cache.close();
  });
}
