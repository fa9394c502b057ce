import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { collectGarbage } from "../../support/collect-garbage.ts";
import { following, times, until, web } from "../../support/engine/following.ts";
import { type Fault, idOf } from "../../support/engine/stand-in.ts";

t.test("containers that already run are in the directory when it is settled", async (t) => {
  const { directory, changes, connection } = await following(t, {}, (engine) =>
    engine.run(web("172.17.0.2")),
  );
  t.match(directory.at("172.17.0.2"), {
    container: { name: "web", env: { IAM_ROLE: "web" }, pid: process.pid },
  });
  t.same(changes, ["started web true"]);
  t.match(connection.state(), {
    connected: true,
    apiVersion: "1.52",
    engine: "Docker 29.0.0",
    containers: 1,
  });
  t.equal(connection.state().lastError, undefined);
});

t.test("an engine that stops is dialled until it is back", async (t) => {
  const { engine, connection, directory } = await following(t);
  const states = [connection.state().connected];
  await engine.stop();
  await until("the loss", () => !connection.state().connected);
  states.push(connection.state().connected);
  t.match(connection.state().lastError, /ENOENT|following the engine's events/);
  engine.run(web("172.17.0.2"), { quietly: true });
  await engine.start();
  await until("the return", () => connection.state().connected);
  states.push(connection.state().connected);
  t.equal(directory.at("172.17.0.2").kind, "container");
  t.same(states, [true, false, true]);
});

t.test("a stop does not wait for the pause before the next attempt", async (t) => {
  const retryMs = { first: 5_000, max: 5_000, maxAfterAnswer: 5_000 };
  for (const running of [true, false]) {
    const { engine, connection } = await following(t, { times: { ...times, retryMs } });
    if (!running) {
      await engine.stop();
      await until("the loss", () => !connection.state().connected);
    }
    const before = performance.now();
    await connection.stop();
    t.ok(performance.now() - before < 1_000, running ? "while connected" : "while disconnected");
  }
});

t.test("a dead event stream is detected by comparing", async (t) => {
  const { engine, directory } = await following(t, { times: { ...times, compareEveryMs: 50 } });
  engine.run(web("172.17.0.2"), { quietly: true });
  await until("the comparison", () => directory.at("172.17.0.2").kind === "container");
  await until("a new stream", () => engine.requests.filter((path) => path.includes("/events")).length > 1);
});

t.test("a refresh finds a container without an event; concurrent callers share one list", async (t) => {
  const { engine, directory, connection } = await following(t);
  engine.run(web("172.17.0.2"), { quietly: true });
  const lists = () => engine.requests.filter((path) => path.includes("/containers/json")).length;
  const before = lists();
  await Promise.all(Array.from({ length: 100 }, () => connection.refresh()));
  t.equal(directory.at("172.17.0.2").kind, "container");
  t.equal(lists(), before + 1);
});

const faults: ReadonlyArray<readonly [string, Fault, RegExp]> = [
  ["it accepts and never answers", { kind: "hang" }, /no answer in 300 ms/],
  ["it answers 500", { kind: "status", status: 500 }, /500.*made to fail/],
  [
    "it answers 503 to the list",
    { kind: "status", status: 503, only: /\/containers\/json/ },
    /listing containers.*503/,
  ],
  [
    "its list ends in the middle",
    { kind: "half-answer", only: /\/containers\/json/ },
    /listing containers.*no answer/,
  ],
  [
    "its version ends in the middle",
    { kind: "half-answer", only: /\/version/ },
    /requesting the engine's version/,
  ],
];

for (const [what, fault, expected] of faults) {
  t.test(`${what}: known containers stay, the state has the reason, and it recovers by itself`, async (t) => {
    const { engine, directory, connection, logged } = await following(t, {}, (engine) =>
      engine.run(web("172.17.0.2")),
    );
    const known = directory.at("172.17.0.2");
    engine.fault(fault);
    engine.dropStreams();
    await until("the state", () => expected.test(connection.state().lastError ?? ""));
    t.notOk(connection.state().connected);
    await sleep(100);
    t.equal(directory.at("172.17.0.2"), known, "the same entry: its proofs hold");
    t.ok(
      logged.filter((message) => message.includes("cannot follow the engine")).length <= 3,
      "not a line for each attempt",
    );
    engine.run(web("172.17.0.3", "late"), { quietly: true });
    engine.fault({ kind: "none" });
    await until("the recovery", () => directory.at("172.17.0.3").kind === "container");
    await until("the state", () => connection.state().connected);
    t.equal(connection.state().lastError, undefined);
    t.equal(directory.at("172.17.0.2"), known);
  });

  t.test(`${what} from the start: settled all the same, and followed when it recovers`, async (t) => {
    const { engine, directory, connection } = await following(t, {}, (engine) => {
      engine.run(web("172.17.0.2"), { quietly: true });
      engine.fault(fault);
    });
    t.match(connection.state(), { connected: false, lastError: expected });
    engine.fault({ kind: "none" });
    await until("the recovery", () => directory.at("172.17.0.2").kind === "container");
  });
}

t.test(
  "it refuses to inspect one container: the others are followed, and that one is inspected again later",
  async (t) => {
    const { engine, directory, connection } = await following(t, { times: { ...times, compareEveryMs: 50 } });
    engine.fault({ kind: "status", status: 500, only: new RegExp(idOf("bad")) });
    engine.run(web("172.17.0.2", "bad"));
    engine.run(web("172.17.0.3", "good"));
    await until("the other", () => directory.at("172.17.0.3").kind === "container");
    await until("the state", () => /500/.test(connection.state().lastError ?? ""));
    engine.fault({ kind: "none" });
    await until("the recovery", () => directory.at("172.17.0.2").kind === "container");
    await until(
      "a state without an error",
      () => connection.state().lastError === undefined && connection.state().connected,
    );
  },
);

const torn: ReadonlyArray<readonly [string, string]> = [
  ["half an event, then the end", '{"Type":"container","Action":"die","Actor":{"ID":"'],
  ["half an event on a line of its own", '{"Type":"container","Action":"di\n'],
  ["a line that is not an event", "[1,2,3]\n"],
  ["an event without an id", '{"Type":"container","Action":"die","Actor":{}}\n'],
  ["a line of two megabytes", `${"x".repeat(2 * 1024 * 1024)}`],
];
for (const [what, text] of torn) {
  t.test(`${what}: no container is removed, and the stream is opened again`, async (t) => {
    const { engine, directory, connection } = await following(t, {}, (engine) =>
      engine.run(web("172.17.0.2")),
    );
    const known = directory.at("172.17.0.2");
    const streams = () => engine.requests.filter((path) => path.includes("/events")).length;
    engine.raw(text);
    await sleep(20);
    if (what.endsWith("the end")) engine.dropStreams();
    await until("another stream", () => streams() > 1 && connection.state().connected);
    t.equal(directory.at("172.17.0.2"), known);
    engine.die(idOf("web"));
    await until("its end", () => directory.at("172.17.0.2").kind === "unknown");
  });
}

t.test(
  "a stream that is dropped again and again: every container is followed, and nothing leaks",
  async (t) => {
    const { engine, directory, connection } = await following(t, {}, (engine) => {
      for (let index = 0; index < 50; index += 1) engine.run(web(`172.17.1.${index}`, `stays${index}`));
    });
    const round = async (index: number) => {
      engine.run(web("172.17.0.2", `round${index}`), { quietly: index % 2 === 0 });
      engine.dropStreams();
      await until(`round ${index}`, () => {
        const lookup = directory.at("172.17.0.2");
        return lookup.kind === "container" && lookup.container.name === `round${index}`;
      });
      engine.die(idOf(`round${index}`), { quietly: index % 3 === 0 });
      engine.remove(idOf(`round${index}`));
    };
    for (let index = 0; index < 10; index += 1) await round(index);
    engine.requests.length = 0;
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    for (let index = 10; index < 18; index += 1) await round(index);
    engine.requests.length = 0;
    collectGarbage();
    const grown = process.memoryUsage().heapUsed - before;
    t.ok(engine.openConnections < 40, `${engine.openConnections} connections are open`);
    t.ok(engine.openStreams <= 1, `${engine.openStreams} streams are open`);
    t.ok(grown < 16 * 1024 * 1024, `the heap has grown by ${grown} bytes`);
    await until("the connection", () => connection.state().connected);
    await until("the last one's end", () => directory.containers().length === 50);
  },
);

const day = 86_400_000;

for (const [what, step] of [
  ["back by a day", -day],
  ["forward by a day", day],
] as const) {
  t.test(`a wall clock set ${what}: comparisons, refreshes and events still work`, async (t) => {
    let offset = 0;
    const wallNow = () => Date.now() + offset;
    const { engine, directory, connection } = await following(
      t,
      { wallNow, times: { ...times, compareEveryMs: 50 } },
      (engine) => engine.run(web("172.17.0.2")),
    );
    const known = directory.at("172.17.0.2");
    await connection.refresh();
    offset = step;
    engine.run(web("172.17.0.3", "silent"), { quietly: true });
    await until("a comparison", () => directory.at("172.17.0.3").kind === "container");
    await until("the connection", () => connection.state().connected);
    engine.run(web("172.17.0.4", "asked"), { quietly: true });
    const asked = performance.now();
    await connection.refresh();
    t.ok(performance.now() - asked < 1_000, "a refresh does not block");
    await until("the refresh", () => directory.at("172.17.0.4").kind === "container");
    await until("the connection", () => connection.state().connected);
    engine.event("container", "die", idOf("web"), {}, wallNow());
    engine.die(idOf("web"), { quietly: true });
    await until("its end", () => directory.at("172.17.0.2").kind === "unknown");
    t.not(directory.at("172.17.0.2"), known);
  });
}

t.test("events are requested by the wall clock, also after it was set", async (t) => {
  let offset = 0;
  const { engine, connection } = await following(t, {
    // A monotonic clock, far from the epoch.
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
  await until("the connection", () => connection.state().connected);
  const streams = since().length;
  offset = day;
  await sleep(200);
  t.equal(since().length, streams, "set forward, no event is lost: the stream stays");
  t.ok(
    Math.abs(connection.state().since - (Date.now() - day)) < 10_000,
    "the state has the wall clock's time",
  );
});

t.test("a monotonic clock that goes back all the same delays a refresh by its pause at most", async (t) => {
  let offset = 0;
  const { connection } = await following(t, { now: () => performance.now() + offset });
  await connection.refresh();
  offset = -day;
  const asked = performance.now();
  await connection.refresh();
  t.ok(performance.now() - asked < 1_000);
});

for (const [what, fault] of [
  ["hangs", { kind: "hang" }],
  ["stops in the middle of its list", { kind: "half-answer", only: /\/containers\/json/ }],
] as const) {
  t.test(`an engine that ${what} holds the callers of a refresh until the timeout, not longer`, async (t) => {
    const { engine, connection } = await following(t, {
      times: { ...times, callTimeoutMs: 3_000, refreshTimeoutMs: 100 },
    });
    engine.fault(fault);
    for (let round = 0; round < 2; round++) {
      const asked = performance.now();
      await Promise.all([connection.refresh(), connection.refresh()]);
      const took = performance.now() - asked;
      t.ok(took < 1_000, `${Math.round(took)} ms`);
    }
    engine.fault({ kind: "none" });
    engine.dropStreams();
  });
}
