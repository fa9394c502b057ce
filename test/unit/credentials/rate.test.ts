import t from "tap";
import { roleRequest, simulatedCache, watch } from "./fixture.ts";

const minute = 60_000;

t.test(
  "in an outage cached credentials are served until they expire, then 503; 5 s after it all is well",
  async (t) => {
    let down = false;
    const { time, sts, lines, get, prefetch, cache } = simulatedCache({
      sts: { fault: () => (down ? "down" : undefined) },
    });
    const requests = Array.from({ length: 100 }, (_, index) => roleRequest("role", `c${index}`));
    for (const request of requests) prefetch(request.sessionName, request);
    await time.runFor(minute);
    down = true;
    await time.runFor(9 * minute);
    for (const request of requests) t.match(get(request.sessionName, request), { kind: "credentials" });

    await time.runFor(75 * minute);
    const before = sts.total;
    const waiting = requests.map((request) => watch(get(request.sessionName, request)));
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
    const served = requests.filter((request) => !(get(request.sessionName, request) instanceof Promise));
    t.equal(served.length, 100);
    t.equal(lines.filter((line) => line.message.startsWith("roles cannot be assumed")).length, 1);
    t.equal(lines.filter((line) => line.message.startsWith("STS answers again")).length, 1);
    cache.close();
  },
);

t.test("a host with a single role also has credentials within 5 s of the end of an outage", async (t) => {
  let down = true;
  const { time, get, cache } = simulatedCache({ sts: { fault: () => (down ? "down" : undefined) } });
  get("c", roleRequest("db"));
  await time.runFor(20 * minute);
  down = false;
  await time.runFor(5_000);
  t.match(get("c", roleRequest("db")), { kind: "credentials" });
  cache.close();
});

t.test("throttling slows down all calls, is logged once, and the rate recovers", async (t) => {
  const { time, sts, lines, prefetch, cache } = simulatedCache({ sts: { callsPerSecond: 20 } });
  for (let index = 0; index < 500; index++) prefetch(`c${index}`, roleRequest("role", `c${index}`));
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
