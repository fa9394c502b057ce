import t from "tap";
import { keyOf } from "../../../src/credentials/assume-role.ts";
import { CredentialCache } from "../../../src/credentials/cache.ts";
import { failures } from "../../../src/credentials/failures.ts";
import { SimulatedSts } from "../../simulation/simulated-sts.ts";
import { SimulatedTime, seededRandom } from "../../simulation/simulated-time.ts";
import { accessDenied, recordingLog, roleRequest, simulatedCache, watch } from "./fixture.ts";

const minute = 60_000;
const day = 24 * 60 * minute;

for (const { sessions, calls, sessionOf } of [
  { sessions: "one session per role", calls: 50, sessionOf: () => "shared" },
  { sessions: "one session per container", calls: 1_000, sessionOf: (index: number) => `container-${index}` },
]) {
  t.test(
    `1,000 containers of 50 roles start within 10 s: all are answered from memory (${sessions})`,
    async (t) => {
      const { time, sts, get, prefetch, cache } = simulatedCache();
      let fromMemory = 0;
      for (let index = 0; index < 1_000; index++) {
        const holder = `container-${index}`;
        const request = roleRequest(`role-${index % 50}`, sessionOf(index));
        time.schedule(index * 10, () => {
          prefetch(holder, request);
          time.schedule(1_000, () => {
            const answer = get(holder, request);
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

t.test("200 concurrent requests for one cold key make one call and get one object", async (t) => {
  const { time, sts, get, cache } = simulatedCache();
  const request = roleRequest("db");
  const answers = Promise.all(Array.from({ length: 200 }, (_, index) => get(`c${index}`, request)));
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
    const { time, get, cache } = simulatedCache();
    const request = roleRequest("db");
    const first = get("c", request);
    t.type(first, Promise);
    await time.runFor(100);
    const known = get("c", request);
    t.equal(known, await first);
    t.equal(known, get("c", request));
    await time.runFor(35 * minute);
    const renewed = get("c", request);
    t.notOk(renewed instanceof Promise);
    t.not(renewed, known);
    cache.close();
  },
);

t.test("while STS works, credentials always have at least 25 minutes of an hour left", async (t) => {
  const { time, get, prefetch, cache } = simulatedCache();
  const requests = Array.from({ length: 100 }, (_, index) => roleRequest("role", `c${index}`));
  for (const request of requests) prefetch(request.sessionName, request);
  let least = Number.POSITIVE_INFINITY;
  for (let at = 1; at < 6 * 60; at++) {
    await time.runFor(minute);
    for (const request of requests) {
      const answer = await get(request.sessionName, request);
      least = Math.min(least, answer.kind === "credentials" ? answer.credentials.expiresAt - time.now() : 0);
    }
  }
  t.ok(least >= 25 * minute, `the least was ${(least / minute).toFixed(1)} minutes`);
  cache.close();
});

t.test(
  "a client waits for a bounded time; the call continues and its answer serves the next client",
  async (t) => {
    const { time, sts, get, cache } = simulatedCache({ sts: { latencyMs: 1_500 } });
    const first = watch(get("c", roleRequest("db")));
    await time.runFor(899);
    t.equal(first.value, undefined);
    await time.runFor(1);
    t.match(first.value, { kind: "unavailable", code: "CredentialsUninitialized", retryAfterMs: 1_000 });
    await time.runFor(1_000);
    t.match(get("c", roleRequest("db")), { kind: "credentials" });
    t.equal(sts.total, 1);
    cache.close();
  },
);

t.test("credentials are dropped with their last container, and a call for them is cancelled", async (t) => {
  const { time, sts, get, prefetch, cache } = simulatedCache({
    sts: { latencyMs: 100, fault: (arn) => (arn.endsWith("hangs") ? "hang" : undefined) },
  });
  const shared = roleRequest("shared");
  prefetch("a", shared);
  prefetch("b", shared);
  prefetch("c", roleRequest("hangs"));
  await time.runFor(500);
  cache.release("a");
  t.match(get("b", shared), { kind: "credentials" });
  t.match(cache.stats(), { entries: 2, warm: 1 });
  cache.release("b");
  t.match(cache.stats(), { entries: 1, warm: 0 }, "only the entry that hangs is left");
  t.equal(sts.inFlight, 1);
  const waiting = watch(get("c", roleRequest("hangs")));
  cache.release("c");
  await time.runFor(0);
  t.equal(waiting.value?.kind, "unavailable", "a waiting client is answered at once");
  t.equal(sts.inFlight, 0);
  await time.runFor(3 * 60 * minute);
  t.equal(sts.total, 2, "nothing is renewed without a container");
  t.equal(cache.stats().entries, 0);
  cache.close();
});

t.test("a container whose grant changes releases its former credentials", async (t) => {
  const { time, prefetch, get, cache } = simulatedCache();
  prefetch("a", roleRequest("old"));
  await time.runFor(100);
  prefetch("a", roleRequest("new"));
  await time.runFor(100);
  t.match(get("a", roleRequest("new")), { kind: "credentials" });
  t.equal(cache.stats().entries, 1);
  t.type(get("b", roleRequest("old")), Promise, "the former credentials are not cached any more");
  cache.close();
});

t.test("after releases only the containers that are left hold credentials", async (t) => {
  const { time, prefetch, get, cache } = simulatedCache();
  for (const id of ["a", "b", "c"]) prefetch(id, roleRequest("role", id));
  await time.runFor(200);
  for (const id of ["a", "c"]) cache.release(id);
  t.equal(cache.stats().entries, 1);
  t.match(get("b", roleRequest("role", "b")), { kind: "credentials" });
  cache.close();
});

t.test(
  "credentials stay when the container that fetched them goes and another one has asked for them",
  async (t) => {
    const { time, prefetch, get, cache } = simulatedCache();
    prefetch("a", roleRequest("role"));
    await time.runFor(100);
    t.match(get("b", roleRequest("role")), { kind: "credentials" });
    cache.release("a");
    t.match(get("b", roleRequest("role")), { kind: "credentials" });
    cache.close();
  },
);

t.test(
  "with a start spread, prefetches are spread over that time, and what a client waits for is fetched at once",
  async (t) => {
    const { time, sts, prefetch, get, cache } = simulatedCache({ limits: { startSpreadMs: 100_000 } });
    for (let index = 0; index < 100; index++) prefetch(`c${index}`, roleRequest("role", `c${index}`));
    const answer = watch(get("c50", roleRequest("role", "c50")));
    await time.runFor(100);
    t.match(answer.value, { kind: "credentials" });
    t.ok(sts.total < 5);
    await time.runFor(50_000);
    t.ok(sts.total > 30 && sts.total < 70, `${sts.total} after half of the time`);
    await time.runFor(50_000);
    t.equal(sts.total, 100);
    cache.close();
  },
);

t.test("close answers waiting clients and leaves no timer behind", async (t) => {
  const { time, sts, get, cache } = simulatedCache({ sts: { fault: () => "hang" } });
  const waiting = watch(get("c", roleRequest("db")));
  await time.runFor(10);
  cache.close();
  await time.runFor(0);
  t.equal(waiting.value?.kind, "unavailable");
  await time.runFor(60 * minute);
  t.equal(sts.total, 1);
});

t.test("the statistics count every call", async (t) => {
  const { time, cache, prefetch } = simulatedCache({
    sts: { fault: (arn) => (arn.endsWith("denied") ? accessDenied : undefined) },
  });
  prefetch("a", roleRequest("denied"));
  prefetch("b", roleRequest("db"));
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

t.test(
  "a refusal is remembered for longer each time, logged once, and over when IAM allows the role",
  async (t) => {
    let denied = true;
    const { time, sts, lines, get, cache } = simulatedCache({
      sts: { fault: () => (denied ? accessDenied : undefined) },
    });
    const request = roleRequest("db");
    const first = watch(get("c", request));
    await time.runFor(60);
    t.match(first.value, { kind: "refused", code: "AssumeRoleUnauthorizedAccess" });
    t.equal(get("c", request), first.value, "the second client is answered at once");

    const callsAt: number[] = [];
    const start = time.now();
    for (let second = 0; second < 30 * 60; second++) {
      await time.runFor(1_000);
      get("c", request);
      if (sts.total > callsAt.length) callsAt.push((time.now() - start) / 1000);
    }
    const pauses = callsAt.slice(1).map((at, index) => at - (callsAt[index] ?? 0));
    t.ok((pauses[0] ?? 0) <= 8 && (pauses[1] ?? 0) > (pauses[0] ?? 0), `pauses grow: ${pauses.join(", ")}`);
    t.ok(Math.max(...pauses) <= 370);
    t.equal(lines.length, 1, "one line in half an hour of requests");
    t.match(lines[0], {
      level: "warn",
      fields: {
        code: "role-refused",
        stsCode: "AccessDenied",
        stillValid: false,
        failure: "trust-or-permission",
        ...failures["trust-or-permission"],
      },
    });

    denied = false;
    await time.runFor(6 * minute);
    const last = watch(get("c", request));
    await time.runFor(100);
    t.match(last.value, { kind: "credentials" });
    t.equal(lines.length, 2);
    t.match(lines[1], { level: "info" });
    cache.close();
  },
);

t.test(
  "a refused renewal leaves the credentials in use until they expire; then the refusal is the answer",
  async (t) => {
    let denied = false;
    const { time, lines, get, prefetch, cache } = simulatedCache({
      sts: { fault: () => (denied ? accessDenied : undefined) },
    });
    const request = roleRequest("db");
    prefetch("c", request);
    await time.runFor(minute);
    denied = true;
    await time.runFor(58 * minute);
    t.match(get("c", request), { kind: "credentials" });
    await time.runFor(30 * minute);
    const after = watch(get("c", request));
    await time.runFor(100);
    t.match(after.value, { kind: "refused", code: "AssumeRoleUnauthorizedAccess" });
    t.equal(lines.filter((line) => line.level === "warn").length, 1);
    cache.close();
  },
);

t.test("a call that never ends is cancelled at its deadline and repeated", async (t) => {
  let hang = true;
  const { time, sts, get, cache } = simulatedCache({ sts: { fault: () => (hang ? "hang" : undefined) } });
  get("c", roleRequest("db"));
  await time.runFor(9_900);
  t.equal(sts.total, 1);
  hang = false;
  await time.runFor(400);
  t.match(get("c", roleRequest("db")), { kind: "credentials" });
  cache.close();
});

t.test("a temporary failure is retried successfully while a client waits", async (t) => {
  let failures = 2;
  const { time, get, cache } = simulatedCache({
    sts: { fault: () => (failures-- > 0 ? "down" : undefined) },
  });
  const waiting = watch(get("c", roleRequest("db")));
  await time.runFor(800);
  t.match(waiting.value, { kind: "credentials" });
  cache.close();
});

t.test(
  "an STS client that rejects with something else does not break the cache, and its message is not shown",
  async (t) => {
    const { time, lines, get, cache } = simulatedCache({
      sts: {
        fault: () => {
          throw new TypeError("<SecretAccessKey>leaked</SecretAccessKey>");
        },
      },
    });
    const waiting = watch(get("c", roleRequest("db")));
    await time.runFor(5_000);
    t.match(waiting.value, { kind: "unavailable" });
    t.notMatch(JSON.stringify([waiting.value, lines]), /leaked/);
    cache.close();
  },
);

for (const step of [-day, day]) {
  const what = step < 0 ? "back by a day" : "forward by a day";

  t.test(`a wall clock that is set ${what} changes no call and no answer`, async (t) => {
    /** Ten hours with outages and refusals: the time of each call, and every answer. */
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
        log: recordingLog().log,
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

for (const latencyMs of [10, 1_000, 4_000]) {
  t.test(`a waiting client waits at most 5 s for a retry if calls fail after ${latencyMs} ms`, async (t) => {
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
      log: recordingLog().log,
    });
    // Without a client that waits, the pause grows to a minute.
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
    t.ok(Math.max(...gaps) <= 5_000, `${Math.max(...gaps)} ms between two calls`);
    cache.close();
  });
}

t.test("what a container holds names why its role is refused, until a call succeeds", async (t) => {
  let denied = true;
  const { time, cache, prefetch } = simulatedCache({
    sts: { fault: (arn) => (denied && /denied/.test(arn) ? accessDenied : undefined) },
  });
  const heldBy = (role: string) => cache.held(role, keyOf(roleRequest(role)));
  for (const role of ["denied", "db"]) prefetch(role, roleRequest(role));
  await time.runFor(100);
  t.match(heldBy("denied")?.lastError, {
    failure: "trust-or-permission",
    ...failures["trust-or-permission"],
    message: /not authorized/,
  });
  t.equal(heldBy("db")?.lastError, undefined);
  denied = false;
  await time.runFor(60_000);
  t.match(heldBy("denied"), { state: "valid", lastError: undefined });
  cache.close();
});
