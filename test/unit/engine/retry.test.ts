import t from "tap";
import { failuresAfter, retryDelayMs } from "../../../src/engine/retry.ts";

const times = { first: 200, max: 10_000, maxAfterAnswer: 1_000 };
const unanswered = { lastedMs: undefined };
const short = { lastedMs: 10 };

const delays = [
  ["the first failure", unanswered, 1, 400],
  ["the fourth failure in a row", unanswered, 4, 3_200],
  ["many failures in a row", unanswered, 1_000, 10_000],
  ["a connection that was dropped after the list", short, 1, 400],
  ["a connection that is dropped again and again", short, 1_000, 1_000],
  ["a connection that had been steady", { lastedMs: 60_000 }, 0, 200],
] as const;
for (const [what, attempt, failures, longest] of delays) {
  t.test(`after ${what} the delay is at most ${longest} ms and at least half of it`, async (t) => {
    t.equal(retryDelayMs(attempt, failures, times, 0), longest / 2);
    t.equal(retryDelayMs(attempt, failures, times, 1), longest);
  });
}

const counts = [
  ["without an answer", unanswered, 4],
  ["that was dropped soon", short, 4],
  ["that lasted 30 s", { lastedMs: 30_000 }, 4],
  ["that lasted longer than 30 s", { lastedMs: 30_001 }, 0],
] as const;
for (const [what, attempt, expected] of counts) {
  t.test(`three failures and then a connection ${what} are ${expected} failures in a row`, async (t) => {
    t.equal(failuresAfter(attempt, 3), expected);
  });
}
