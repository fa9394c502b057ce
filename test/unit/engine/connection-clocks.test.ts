import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { idOf } from "../../support/engine/engine.ts";
import { following, times, until, web } from "../../support/engine/following.ts";

const day = 86_400_000;

for (const [what, step] of [
  ["back by a day", -day],
  ["forward by a day", day],
] as const) {
  t.test(`a wall clock set ${what}: comparisons and refreshes go on, and events are followed`, async (t) => {
    let offset = 0;
    const wallNow = () => Date.now() + offset;
    const { engine, directory, watch } = await following(
      t,
      { wallNow, times: { ...times, compareEveryMs: 50 } },
      (engine) => engine.run(web("172.17.0.2")),
    );
    const known = directory.at("172.17.0.2");
    await watch.refresh();
    offset = step;
    engine.run(web("172.17.0.3", "silent"), { quietly: true });
    await until("a comparison", () => directory.at("172.17.0.3").kind === "container");
    await until("the connection", () => watch.state().connected);
    engine.run(web("172.17.0.4", "asked"), { quietly: true });
    const asked = performance.now();
    await watch.refresh();
    t.ok(performance.now() - asked < 1_000, "a refresh keeps nobody waiting");
    await until("the refresh", () => directory.at("172.17.0.4").kind === "container");
    await until("the connection", () => watch.state().connected);
    engine.event("container", "die", idOf("web"), {}, wallNow());
    engine.die(idOf("web"), { quietly: true });
    await until("its end", () => directory.at("172.17.0.2").kind === "unknown");
    t.not(directory.at("172.17.0.2"), known);
  });
}

t.test("the engine is asked for events by the wall clock, also when that was set", async (t) => {
  let offset = 0;
  const { engine, watch } = await following(t, {
    // Far from any epoch, as a clock for durations may be.
    now: () => performance.now(),
    wallNow: () => Date.now() + offset,
    times: { ...times, compareEveryMs: 50 },
  });
  const since = () =>
    engine.requests.flatMap((path) => /\/events\?.*\bsince=(\d+)/.exec(path)?.[1] ?? []).map(Number);
  const first = since()[0] ?? 0;
  t.ok(Math.abs(first - Date.now() / 1000) < 10, `asked since ${first}`);
  offset = -day;
  await until("a stream of the new time", () => since().length > 1);
  t.ok(Math.abs((since().at(-1) ?? 0) - (Date.now() - day) / 1000) < 10);
  await until("the connection", () => watch.state().connected);
  const streams = since().length;
  offset = day;
  await sleep(200);
  t.equal(since().length, streams, "set forward, it loses nothing: the stream stays");
  t.ok(Math.abs(watch.state().since - (Date.now() - day)) < 10_000, "the state tells the wall clock's time");
});

t.test(
  "a clock for durations that breaks its promise and goes back delays a refresh by its pause at most",
  async (t) => {
    let offset = 0;
    const { watch } = await following(t, { now: () => performance.now() + offset });
    await watch.refresh();
    offset = -day;
    const asked = performance.now();
    await watch.refresh();
    t.ok(performance.now() - asked < 1_000);
  },
);

for (const [what, fault] of [
  ["hangs", { kind: "hang" }],
  ["stops in the middle of its list", { kind: "half-answer", only: /\/containers\/json/ }],
] as const) {
  t.test(`an engine that ${what} keeps those who wait for a refresh for its limit, not longer`, async (t) => {
    const { engine, watch } = await following(t, {
      times: { ...times, callTimeoutMs: 3_000, refreshMs: 100 },
    });
    engine.fault(fault);
    for (let round = 0; round < 2; round++) {
      const asked = performance.now();
      await Promise.all([watch.refresh(), watch.refresh()]);
      const took = performance.now() - asked;
      t.ok(took < 1_000, `${Math.round(took)} ms`);
    }
    engine.fault({ kind: "none" });
    engine.dropStreams();
  });
}

t.test("a container that changes without end does not hold up a comparison", async (t) => {
  const { engine, directory, watch } = await following(
    t,
    { times: { ...times, refreshMs: 10_000 } },
    (engine) => engine.run(web("172.17.0.2")),
  );
  let answers = 0;
  const storm = setInterval(() => engine.event("container", "update", idOf("storm")), 1);
  t.teardown(() => clearInterval(storm));
  engine.run(web("172.17.0.3", "storm"), { quietly: true });
  engine.run(web("172.17.0.4", "calm"), { quietly: true });
  for (; answers < 3; answers++) await watch.refresh();
  t.equal(answers, 3);
  t.equal(directory.at("172.17.0.4").kind, "container");
});
