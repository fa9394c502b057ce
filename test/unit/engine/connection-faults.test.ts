import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { collectGarbage } from "../../support/collect-garbage.ts";
import type { Fault } from "../../support/engine/engine.ts";
import { idOf } from "../../support/engine/engine.ts";
import { following, times, until, web } from "../../support/engine/following.ts";

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
  ["its version ends in the middle", { kind: "half-answer", only: /\/version/ }, /asking for its version/],
];

for (const [what, fault, expected] of faults) {
  t.test(`${what}: known containers stay, the state says why, and it recovers by itself`, async (t) => {
    const { engine, directory, watch, logged } = await following(t, {}, (engine) =>
      engine.run(web("172.17.0.2")),
    );
    const known = directory.at("172.17.0.2");
    engine.fault(fault);
    engine.dropStreams();
    await until("the state", () => expected.test(watch.state().lastError ?? ""));
    t.notOk(watch.state().connected);
    await sleep(100);
    t.equal(directory.at("172.17.0.2"), known, "the same entry: its proofs hold");
    t.ok(
      logged.filter((message) => message.includes("cannot be followed")).length <= 3,
      "not a line for each attempt",
    );
    engine.run(web("172.17.0.3", "late"), { quietly: true });
    engine.fault({ kind: "none" });
    await until("the recovery", () => directory.at("172.17.0.3").kind === "container");
    await until("the state", () => watch.state().connected);
    t.equal(watch.state().lastError, undefined);
    t.equal(directory.at("172.17.0.2"), known);
  });

  t.test(`${what} from the beginning: settled all the same, and followed when it recovers`, async (t) => {
    const { engine, directory, watch } = await following(t, {}, (engine) => {
      engine.run(web("172.17.0.2"), { quietly: true });
      engine.fault(fault);
    });
    t.match(watch.state(), { connected: false, lastError: expected });
    engine.fault({ kind: "none" });
    await until("the recovery", () => directory.at("172.17.0.2").kind === "container");
  });
}

t.test(
  "it refuses to tell about one container: the others are followed, and that one is asked for again",
  async (t) => {
    const { engine, directory, watch } = await following(t, { times: { ...times, compareEveryMs: 50 } });
    engine.fault({ kind: "status", status: 500, only: new RegExp(idOf("bad")) });
    engine.run(web("172.17.0.2", "bad"));
    engine.run(web("172.17.0.3", "good"));
    await until("the other", () => directory.at("172.17.0.3").kind === "container");
    await until("the state", () => /500/.test(watch.state().lastError ?? ""));
    engine.fault({ kind: "none" });
    await until("the recovery", () => directory.at("172.17.0.2").kind === "container");
    await until(
      "a state without trouble",
      () => watch.state().lastError === undefined && watch.state().connected,
    );
  },
);

const torn: ReadonlyArray<readonly [string, string]> = [
  ["half an event, then the end", '{"Type":"container","Action":"die","Actor":{"ID":"'],
  ["half an event on a line of its own", '{"Type":"container","Action":"di\n'],
  ["a line that is no event", "[1,2,3]\n"],
  ["an event without an id", '{"Type":"container","Action":"die","Actor":{}}\n'],
  ["a line of two megabytes", `${"x".repeat(2 * 1024 * 1024)}`],
];
for (const [what, text] of torn) {
  t.test(`${what}: nobody is removed by it, and the stream is begun anew`, async (t) => {
    const { engine, directory, watch } = await following(t, {}, (engine) => engine.run(web("172.17.0.2")));
    const known = directory.at("172.17.0.2");
    const streams = () => engine.requests.filter((path) => path.includes("/events")).length;
    engine.raw(text);
    await sleep(20);
    if (what.endsWith("the end")) engine.dropStreams();
    await until("another stream", () => streams() > 1 && watch.state().connected);
    t.equal(directory.at("172.17.0.2"), known);
    engine.die(idOf("web"));
    await until("its end", () => directory.at("172.17.0.2").kind === "unknown");
  });
}

t.test("a stream that is dropped again and again: everything is followed, and nothing grows", async (t) => {
  const { engine, directory, watch } = await following(t, {}, (engine) => {
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
  await until("the connection", () => watch.state().connected);
  await until("the last one's end", () => directory.containers().length === 50);
});

t.test("a flood of events about containers that nobody knows leaves nothing behind", async (t) => {
  const { engine, directory, watch } = await following(t, {}, (engine) => engine.run(web("172.17.0.2")));
  for (let index = 0; index < 3000; index += 1) {
    const id = idOf(`ghost${index}`);
    engine.event("container", index % 2 === 0 ? "start" : "die", id);
    engine.event("network", "connect", "net-bridge", { container: id, name: "bridge" });
  }
  engine.run(web("172.17.0.3", "after"));
  await until("the container after the flood", () => directory.at("172.17.0.3").kind === "container");
  t.equal(directory.containers().length, 2);
  t.ok(watch.state().connected);
});
