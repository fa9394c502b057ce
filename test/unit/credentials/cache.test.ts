import t from "tap";
import { accessDenied, givenCache, roleRequest, watch } from "./fixture.ts";

const minute = 60_000;

for (const { sessions, calls, sessionOf } of [
  { sessions: "one session a role", calls: 50, sessionOf: () => "shared" },
  { sessions: "one session a container", calls: 1_000, sessionOf: (index: number) => `container-${index}` },
]) {
  t.test(
    `1,000 containers of 50 roles start within 10 s: all are answered from memory (${sessions})`,
    async (t) => {
      const { time, sts, ask, want, cache } = givenCache();
      let fromMemory = 0;
      for (let index = 0; index < 1_000; index++) {
        const holder = `container-${index}`;
        const request = roleRequest(`role-${index % 50}`, sessionOf(index));
        time.schedule(index * 10, () => {
          want(holder, request);
          time.schedule(1_000, () => {
            const answer = ask(holder, request);
            if (!(answer instanceof Promise) && answer.kind === "credentials") fromMemory += 1;
          });
        });
      }
      await time.runFor(20_000);
      t.equal(fromMemory, 1_000);
      t.equal(sts.total, calls);
      t.ok(sts.maxInFlight <= 64, `at most ${sts.maxInFlight} in flight`);
      cache.close();
    },
  );
}

t.test("1,000 containers at one moment never have more calls in flight than the limit", async (t) => {
  const { time, sts, want, cache } = givenCache({ limits: { callsInFlight: 10 } });
  for (let index = 0; index < 1_000; index++) want(`c${index}`, roleRequest("role", `c${index}`));
  await time.runFor(60_000);
  t.equal(sts.total, 1_000);
  t.equal(sts.maxInFlight, 10);
  t.equal(cache.stats().warm, 1_000);
  cache.close();
});

t.test("200 concurrent requests for one cold key make one call and get one object", async (t) => {
  const { time, sts, ask, cache } = givenCache();
  const request = roleRequest("db");
  const answers = Promise.all(Array.from({ length: 200 }, (_, index) => ask(`c${index}`, request)));
  await time.runFor(100);
  const seen = new Set(await answers);
  t.equal(sts.total, 1);
  t.equal(seen.size, 1);
  t.equal([...seen][0]?.kind, "credentials");
  t.equal(cache.stats().joined, 199);
  cache.close();
});

t.test(
  "a warm answer is synchronous, the same object until it is renewed, and another one after",
  async (t) => {
    const { time, ask, cache } = givenCache();
    const request = roleRequest("db");
    const first = ask("c", request);
    t.type(first, Promise);
    await time.runFor(100);
    const known = ask("c", request);
    t.equal(known, await first);
    t.equal(known, ask("c", request));
    await time.runFor(35 * minute);
    const renewed = ask("c", request);
    t.notOk(renewed instanceof Promise);
    t.not(renewed, known);
    cache.close();
  },
);

t.test("while STS works, nobody ever sees less than 25 minutes of an hour", async (t) => {
  const { time, ask, want, cache } = givenCache();
  const requests = Array.from({ length: 100 }, (_, index) => roleRequest("role", `c${index}`));
  for (const request of requests) want(request.sessionName, request);
  let least = Number.POSITIVE_INFINITY;
  for (let at = 1; at < 6 * 60; at++) {
    await time.runFor(minute);
    for (const request of requests) {
      const answer = await ask(request.sessionName, request);
      least = Math.min(least, answer.kind === "credentials" ? answer.credentials.expiresAt - time.now() : 0);
    }
  }
  t.ok(least >= 25 * minute, `the least was ${(least / minute).toFixed(1)} minutes`);
  cache.close();
});

t.test(
  "a client is held for a bounded time; the call goes on and its answer is there for the next",
  async (t) => {
    const { time, sts, ask, cache } = givenCache({ sts: { latencyMs: 1_500 } });
    const first = watch(ask("c", roleRequest("db")));
    await time.runFor(899);
    t.equal(first.value, undefined);
    await time.runFor(1);
    t.match(first.value, { kind: "unavailable", code: "CredentialsUninitialized", retryAfterMs: 1_000 });
    await time.runFor(1_000);
    t.match(ask("c", roleRequest("db")), { kind: "credentials" });
    t.equal(sts.total, 1);
    cache.close();
  },
);

t.test("credentials go with their last container, and a call for them is given up", async (t) => {
  const { time, sts, ask, want, cache } = givenCache({
    sts: { latencyMs: 100, fault: (arn) => (arn.endsWith("hangs") ? "hang" : undefined) },
  });
  const shared = roleRequest("shared");
  want("a", shared);
  want("b", shared);
  want("c", roleRequest("hangs"));
  await time.runFor(500);
  cache.release("a");
  t.match(ask("b", shared), { kind: "credentials" });
  t.match(cache.stats(), { entries: 2, warm: 1 });
  cache.release("b");
  t.match(cache.stats(), { entries: 1, warm: 0 }, "only the entry that hangs is left");
  t.equal(sts.inFlight, 1);
  const waiting = watch(ask("c", roleRequest("hangs")));
  cache.release("c");
  await time.runFor(0);
  t.equal(waiting.value?.kind, "unavailable", "who waited is told at once");
  t.equal(sts.inFlight, 0);
  await time.runFor(3 * 60 * minute);
  t.equal(sts.total, 2, "nothing is renewed for nobody");
  t.equal(cache.stats().entries, 0);
  cache.close();
});

t.test("a container with another grant lets go of the former one", async (t) => {
  const { time, want, ask, cache } = givenCache();
  want("a", roleRequest("old"));
  await time.runFor(100);
  want("a", roleRequest("new"));
  await time.runFor(100);
  t.match(ask("a", roleRequest("new")), { kind: "credentials" });
  t.equal(cache.stats().entries, 1);
  t.type(ask("b", roleRequest("old")), Promise, "the former credentials are not cached any more");
  cache.close();
});

t.test("after a re-list only the containers on the list hold credentials", async (t) => {
  const { time, want, ask, cache } = givenCache();
  for (const id of ["a", "b", "c"]) want(id, roleRequest("role", id));
  await time.runFor(200);
  for (const id of ["a", "c"]) cache.release(id);
  t.equal(cache.stats().entries, 1);
  t.match(ask("b", roleRequest("role", "b")), { kind: "credentials" });
  cache.close();
});

t.test(
  "credentials that another container fetched are not lost when that one goes and this one has asked",
  async (t) => {
    const { time, want, ask, cache } = givenCache();
    want("a", roleRequest("role"));
    await time.runFor(100);
    t.match(ask("b", roleRequest("role")), { kind: "credentials" });
    cache.release("a");
    t.match(ask("b", roleRequest("role")), { kind: "credentials" });
    cache.close();
  },
);

t.test(
  "with a start spread, what nobody waits for is fetched over that time, and what a client wants at once",
  async (t) => {
    const { time, sts, want, ask, cache } = givenCache({ limits: { startSpreadMs: 100_000 } });
    for (let index = 0; index < 100; index++) want(`c${index}`, roleRequest("role", `c${index}`));
    const asked = watch(ask("c50", roleRequest("role", "c50")));
    await time.runFor(100);
    t.match(asked.value, { kind: "credentials" });
    t.ok(sts.total < 5);
    await time.runFor(50_000);
    t.ok(sts.total > 30 && sts.total < 70, `${sts.total} after half of the time`);
    await time.runFor(50_000);
    t.equal(sts.total, 100);
    cache.close();
  },
);

t.test("closing tells those who wait, and leaves no alarm behind", async (t) => {
  const { time, sts, ask, cache } = givenCache({ sts: { fault: () => "hang" } });
  const waiting = watch(ask("c", roleRequest("db")));
  await time.runFor(10);
  cache.close();
  await time.runFor(0);
  t.equal(waiting.value?.kind, "unavailable");
  await time.runFor(60 * minute);
  t.equal(sts.total, 1);
});

t.test("every end of a call is reported", async (t) => {
  const { time, cache, want } = givenCache({
    sts: { fault: (arn) => (arn.endsWith("denied") ? accessDenied : undefined) },
  });
  want("a", roleRequest("denied"));
  want("b", roleRequest("db"));
  await time.runFor(100);
  t.match(cache.stats(), {
    calls: { ok: 1, refused: 1, throttled: 0, temporary: 0 },
    lastCallMs: 50,
    spentMs: 100,
    warm: 1,
    refused: 1,
  });
  cache.close();
});
