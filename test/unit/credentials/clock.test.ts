import t from "tap";
import { hostClocks } from "../../../src/commands/clocks.ts";
import { steadyClock } from "../../../src/credentials/clock.ts";

const day = 24 * 60 * 60_000;

/**
 * A host that may be suspended. Times in milliseconds. The wall clock is not read after the start, so setting
 * it has no effect.
 */
function suspendableHost() {
  const host = { monotonic: 5_000, slept: 0 };
  const now = steadyClock({
    start: 1_700_000_000_000,
    monotonic: () => host.monotonic,
    sinceBoot: () => Math.floor((host.monotonic + host.slept) / 10) / 100,
  });
  return { host, now };
}

t.test("the clock starts at the wall clock's time and continues with the monotonic one", async (t) => {
  const { host, now } = suspendableHost();
  t.equal(now(), 1_700_000_000_000);
  let before = now();
  for (let step = 0; step < 10_000; step++) {
    host.monotonic += 7.3;
    const at = now();
    if (at < before) t.fail(`it went back from ${before} to ${at}`);
    before = at;
  }
  t.equal(before, 1_700_000_073_000, "and the coarse clock since boot adds nothing to it");
});

t.test("time that the host slept is noticed within a second of its end, once", async (t) => {
  const { host, now } = suspendableHost();
  host.monotonic += 2_000;
  now();
  host.slept += 3_600_000;
  host.monotonic += 1_000;
  t.ok(Math.abs(now() - (1_700_000_000_000 + 3_603_000)) <= 20);
  host.monotonic += 60_000;
  t.ok(Math.abs(now() - (1_700_000_000_000 + 3_663_000)) <= 20);
});

t.test("the clock for durations does not follow the wall clock", async (t) => {
  const real = Date.now;
  t.teardown(() => {
    Date.now = real;
  });
  const { now } = hostClocks();
  const before = now();
  for (const offset of [-day, day, 0]) {
    Date.now = () => real() + offset;
    const passed = now() - before;
    t.ok(passed >= 0 && passed < 5_000, `${passed} ms passed`);
  }
});
