import t from "tap";
import { hostClocks } from "../../../src/commands/clocks.ts";
import { keyOf } from "../../../src/credentials/assume-role.ts";
import { CredentialCache } from "../../../src/credentials/cache.ts";
import { openSts } from "../../../src/credentials/sts.ts";
import { MetadataClient } from "../../../src/metadata/client.ts";
import { TokenBucket } from "../../../src/token-bucket.ts";
import { SimulatedSts } from "../../simulation/simulated-sts.ts";
import { SimulatedTime, seededRandom } from "../../simulation/simulated-time.ts";
import { account } from "../../support/aws/account.ts";
import { type Aws, startAws } from "../../support/aws/aws.ts";
import { accessDenied, keptLog, roleRequest, watch } from "./fixture.ts";

const minute = 60_000;
const day = 24 * 60 * minute;

/** The wall clock of this process, set by `offset`; put right at the end of the test. */
function givenWallClock(t: { teardown(run: () => void): void }) {
  const real = Date.now;
  const wall = { offset: 0, real };
  Date.now = () => real() + wall.offset;
  t.teardown(() => {
    Date.now = real;
  });
  return wall;
}

t.test("the clock for durations does not follow the wall clock", async (t) => {
  const wall = givenWallClock(t);
  const { now } = hostClocks();
  const before = now();
  for (const offset of [-day, day, 0]) {
    wall.offset = offset;
    const passed = now() - before;
    t.ok(passed >= 0 && passed < 5_000, `${passed} ms passed`);
  }
});

/** STS by the real SDK, with this process's clocks. */
function givenSts(t: { teardown(run: () => unknown): void }, aws: Aws, assumeFirst?: string) {
  const metadata = new MetadataClient({ endpoint: aws.imds.url, now: Date.now });
  t.teardown(() => metadata.close());
  const sts = openSts({
    metadata,
    region: undefined,
    endpoint: aws.sts.url,
    hostKeys: undefined,
    assumeFirst,
    useFips: false,
    useDualstack: false,
    proxyEnvironment: {},
    log: keptLog().log,
    ...hostClocks(),
    wallNow: () => Date.now(),
  });
  t.teardown(async () => {
    sts.close();
    await aws.stop();
  });
  return sts;
}

for (const step of [-day, day]) {
  const what = step < 0 ? "back by a day" : "forward by a day";

  t.test(`a wall clock set ${what} changes no lifetime, and costs one repeated call`, async (t) => {
    const wall = givenWallClock(t);
    const aws = await startAws({ now: wall.real });
    const sts = givenSts(t, aws);
    const assume = () => sts.assumeRole(roleRequest("db"), AbortSignal.timeout(5_000));
    await assume();
    wall.offset = step;
    for (const calls of [2, 1]) {
      const before = aws.sts.counts().total;
      const { lifetimeMs } = await assume();
      t.ok(Math.abs(lifetimeMs - 3_600_000) < 3_000, `${lifetimeMs} ms`);
      t.equal(aws.sts.counts().total - before, calls);
    }
    const asked = aws.imds.requests.total;
    await assume();
    t.equal(aws.imds.requests.total, asked, "the host's own credentials are not read again for it");
    wall.offset = 0;
    t.ok(Math.abs((await assume()).lifetimeMs - 3_600_000) < 3_000, "and back again");
  });

  t.test(`a wall clock set ${what} moves no renewal, no refusal, no probe and no pause`, async (t) => {
    /** Ten hours with an outage and refusals; when each call was made. */
    const callsOf = async (steps: boolean) => {
      const time = new SimulatedTime(1_700_000_000_000);
      let offset = 0;
      const calls: number[] = [];
      const sts = new SimulatedSts({
        time,
        latencyMs: 50,
        callsPerSecond: 5,
        fault: (arn, now) => {
          calls.push(now);
          if (arn.endsWith("denied")) return accessDenied;
          return now % (3 * 60 * minute) < 20 * minute ? "down" : undefined;
        },
      });
      const cache = new CredentialCache({
        assumeRole: sts.assumeRole,
        now: time.now,
        wallNow: () => time.now() + offset,
        schedule: time.schedule,
        random: seededRandom(3),
        log: keptLog().log,
      });
      const roles = ["denied", ...Array.from({ length: 20 }, (_, index) => `role-${index}`)];
      const answers: string[] = [];
      for (let at = 0; at < 300; at++) {
        if (steps && at % 7 === 3) offset = offset === 0 ? step : 0;
        for (const role of roles) {
          const answer = watch(cache.get(role, keyOf(roleRequest(role)), roleRequest(role)));
          await time.runFor(1_000);
          answers.push(answer.value?.kind ?? "none");
        }
        await time.runFor(minute);
      }
      cache.close();
      return { calls, answers };
    };
    t.same(await callsOf(true), await callsOf(false));
  });
}

t.test(
  "what the host's calls have learnt of the time, those with the first hop's keys know too",
  async (t) => {
    const wall = givenWallClock(t);
    const aws = await startAws({ now: wall.real });
    const sts = givenSts(t, aws, `arn:aws:iam::${account.id}:role/hop`);
    const assume = () => sts.assumeRole(roleRequest("db"), AbortSignal.timeout(5_000));
    await assume();
    wall.offset = -day;
    await sts.callerArn(AbortSignal.timeout(5_000)).catch(() => undefined);
    const before = aws.sts.counts().total;
    await assume();
    t.equal(aws.sts.counts().total - before, 1);
  },
);

t.test("a lifetime is counted from the answer's head, also where its body takes its time", async (t) => {
  const aws = await startAws();
  const sts = givenSts(t, aws);
  const assume = () => sts.assumeRole(roleRequest("db"), AbortSignal.timeout(8_000));
  await assume();
  aws.sts.faults.set({ bodyDelayMs: 1_500 });
  const { now } = hostClocks();
  const slow = await assume();
  t.ok(now() - slow.fetchedAt > 1_000, `${now() - slow.fetchedAt} ms ago`);
});

t.test("a document without credentials tells the wall clock's time of that moment", async (t) => {
  const time = new SimulatedTime(1_700_000_000_000);
  const sts = new SimulatedSts({ time, latencyMs: 50, fault: () => accessDenied });
  const cache = new CredentialCache({
    assumeRole: sts.assumeRole,
    now: time.now,
    wallNow: () => Date.UTC(2026, 0, 2, 3, 4, 5),
    schedule: time.schedule,
    random: seededRandom(3),
    log: keptLog().log,
  });
  const answer = watch(cache.get("c", keyOf(roleRequest("db")), roleRequest("db")));
  await time.runFor(100);
  t.match(String(answer.value?.documents.imds), /"LastUpdated" : "2026-01-02T03:04:05Z"/);
  cache.close();
});

t.test("a bucket whose clock goes back gives nothing for it, and goes on", async (t) => {
  const bucket = new TokenBucket(2, 10 * day);
  bucket.empty(10 * day);
  t.equal(bucket.delay(9 * day), 500, "an interval, not a day");
  t.equal(bucket.delay(9 * day + 500), 0);
  bucket.empty(9 * day);
  t.equal(bucket.delay(11 * day), 0);
});

t.test(
  "a client that asks waits at most 5 s for the next try, whatever fails and however slowly",
  async (t) => {
    for (const latencyMs of [10, 1_000, 4_000]) {
      const time = new SimulatedTime(1_700_000_000_000);
      const calls: number[] = [];
      const sts = new SimulatedSts({ time, latencyMs, fault: () => "down" });
      const cache = new CredentialCache({
        assumeRole: (request, signal) => {
          calls.push(time.now());
          return sts.assumeRole(request, signal);
        },
        now: time.now,
        wallNow: time.now,
        schedule: time.schedule,
        random: seededRandom(11),
        log: keptLog().log,
      });
      // Nobody asks for long: the pause of what nobody waits for grows to a minute.
      cache.prefetch("c", keyOf(roleRequest("db")), roleRequest("db"));
      await time.runFor(20 * minute);
      for (let round = 0; round < 60; round++) {
        const answer = watch(cache.get("c", keyOf(roleRequest("db")), roleRequest("db")));
        await time.runFor(1_000);
        if (answer.value?.kind !== "unavailable") throw new Error(`got ${answer.value?.kind}`);
        t.ok(answer.value.retryAfterMs <= 5_000);
      }
      const since = time.now() - 59_000;
      const late = calls.filter((at) => at > since);
      const gaps = late.slice(1).map((at, index) => at - (late[index] ?? 0));
      t.ok(Math.max(...gaps) <= 5_000, `${latencyMs} ms: ${Math.max(...gaps)} ms between two tries`);
      cache.close();
    }
  },
);
