import t from "tap";
import { roleRequest, simulatedCache, watch } from "./fixture.ts";

t.test("1,000 containers at once never have more calls in flight than the limit", async (t) => {
  const { time, sts, prefetch, cache } = simulatedCache({ limits: { callsInFlight: 10 } });
  for (let index = 0; index < 1_000; index++) prefetch(`c${index}`, roleRequest("role", `c${index}`));
  await time.runFor(60_000);
  t.equal(sts.total, 1_000);
  t.equal(sts.maxInFlight, 10);
  t.equal(cache.stats().warm, 1_000);
  cache.close();
});

for (const hanging of [1, 100]) {
  t.test(`calls that hang for ${hanging} of the roles delay no other role`, async (t) => {
    const { time, get, cache } = simulatedCache({
      sts: { fault: (arn) => (arn.includes("hang") ? "hang" : undefined) },
    });
    for (let index = 0; index < hanging; index++) get(`h${index}`, roleRequest(`hang-${index}`));
    await time.runFor(2_500);
    const others = Array.from({ length: 20 }, (_, index) =>
      watch(get(`c${index}`, roleRequest("db", `c${index}`))),
    );
    await time.runFor(60);
    t.equal(others.filter(({ value }) => value?.kind === "credentials").length, 20);
    cache.close();
  });
}

t.test("a call that a client waits for goes before prefetches", async (t) => {
  const { time, get, prefetch, cache } = simulatedCache({ limits: { callsInFlight: 1 } });
  for (let index = 0; index < 100; index++) prefetch(`c${index}`, roleRequest("role", `c${index}`));
  const first = watch(get("late", roleRequest("role", "late")));
  await time.runFor(110);
  t.match(first.value, { kind: "credentials" }, "the second call was for it");
  t.ok(cache.stats().cold > 90);
  const promoted = watch(get("c99", roleRequest("role", "c99")));
  await time.runFor(110);
  t.match(promoted.value, { kind: "credentials" }, "and so does a prefetch once a client waits for it");
  cache.close();
});
