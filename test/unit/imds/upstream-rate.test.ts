import t from "tap";
import { UpstreamRate } from "../../../src/imds/upstream-rate.ts";

t.test("the rate is a bucket that holds half a second's worth, of which half is a reserve", async (t) => {
  const clock = { now: 0 };
  const rate = new UpstreamRate(100, () => clock.now);
  for (let nth = 0; nth < 25; nth++) {
    t.equal(rate.delay(true), 0);
    rate.charge();
  }
  t.equal(rate.delay(true), 10, "without touching the reserve there is one each 10 ms");
  for (let nth = 0; nth < 25; nth++) {
    t.equal(rate.delay(false), 0);
    rate.charge();
  }
  t.equal(rate.delay(false), 10);
  clock.now = 10;
  t.equal(rate.delay(false), 0);
  for (let nth = 0; nth < 1000; nth++) rate.charge();
  t.equal(rate.delay(false), 510, "a debt is never a long one");
  clock.now = -86_400_000;
  t.equal(rate.delay(false), 510, "a clock that is set back takes nothing");
  clock.now += 1000;
  t.equal(rate.delay(false), 0);
});

t.test("a rate of one or two requests a second is kept exactly", async (t) => {
  for (const perSecond of [1, 2]) {
    const clock = { now: 0 };
    const rate = new UpstreamRate(perSecond, () => clock.now);
    t.equal(rate.delay(true), 0);
    rate.charge();
    t.equal(rate.delay(true), 1000 / perSecond);
    clock.now += 1000 / perSecond;
    t.equal(rate.delay(true), 0);
  }
});

t.test("throttling halves the rate at most once a second, down to a tenth, and it recovers", async (t) => {
  const clock = { now: 0 };
  const rate = new UpstreamRate(100, () => clock.now);
  for (let nth = 0; nth < 50; nth++) rate.throttled();
  t.equal(rate.perSecond, 50, "a swarm is one message");
  for (let nth = 0; nth < 20; nth++) {
    clock.now += 1000;
    rate.throttled();
  }
  t.ok(rate.perSecond >= 10 && rate.perSecond <= 20, `${rate.perSecond}`);
  clock.now += 9000;
  t.equal(rate.perSecond, 100);
});
