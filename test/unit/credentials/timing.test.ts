import t from "tap";
import { neededAge, refusalMs, renewalAge, retryMs } from "../../../src/credentials/timing.ts";

const minute = 60_000;
const hour = 60 * minute;
const almostOne = 1 - 2 ** -32;

for (const { renewals, from } of [
  { renewals: 0, from: 12 * minute },
  { renewals: 1, from: 30 * minute },
  { renewals: 20, from: 30 * minute },
]) {
  t.test(
    `after ${renewals} renewals the next one comes from ${from / minute} minutes of 60 on`,
    async (t) => {
      t.equal(renewalAge(hour, renewals, 0), from);
      t.ok(
        renewalAge(hour, renewals, almostOne) < neededAge(hour) - minute,
        "and a minute before it is needed",
      );
    },
  );
}

t.test("a renewal is needed while 25 minutes of an hour are left", async (t) => {
  t.equal(neededAge(hour), 35 * minute);
});

for (const { refusals, seconds } of [
  { refusals: 1, seconds: 5 },
  { refusals: 2, seconds: 10 },
  { refusals: 7, seconds: 300 },
  { refusals: 1_000, seconds: 300 },
]) {
  t.test(`refusal ${refusals} is remembered for ${seconds} s, give or take a fifth`, async (t) => {
    t.equal(refusalMs(refusals, 0), seconds * 800);
    t.equal(refusalMs(refusals, 0.5), seconds * 1_000);
    t.ok(refusalMs(refusals, almostOne) < seconds * 1_200);
  });
}

for (const { failures, waitedFor, throttled, most } of [
  { failures: 1, waitedFor: true, throttled: false, most: 100 },
  { failures: 2, waitedFor: true, throttled: false, most: 300 },
  { failures: 50, waitedFor: true, throttled: false, most: 3_000 },
  { failures: 50, waitedFor: false, throttled: false, most: minute },
  { failures: 1, waitedFor: true, throttled: true, most: 500 },
  { failures: 50, waitedFor: true, throttled: true, most: 3_000 },
]) {
  const how = `${throttled ? "throttled, " : ""}${waitedFor ? "a client waits" : "no client waits"}`;
  t.test(`after failure ${failures} (${how}) the pause is ${most / 2} to ${most} ms`, async (t) => {
    t.equal(retryMs(failures, { waitedFor, throttled }, 0), most / 2);
    t.ok(retryMs(failures, { waitedFor, throttled }, almostOne) < most);
    t.ok(retryMs(failures, { waitedFor, throttled }, almostOne) > most * 0.99);
  });
}
