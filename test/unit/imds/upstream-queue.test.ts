import t from "tap";
import { type Queued, queueLimits, UpstreamQueue } from "../../../src/imds/upstream-queue.ts";
import { UpstreamRate } from "../../../src/imds/upstream-rate.ts";

/** A queue, and requests that end when the test ends them. */
function world(perSecond: number, clock: { now: number }) {
  const rate = new UpstreamRate(perSecond, () => clock.now);
  const queue = new UpstreamQueue({ rate, now: () => clock.now });
  const started: { readonly name: string; readonly by: string | undefined; readonly end: () => void }[] = [];
  const question = (name: string, ...askers: string[]): Queued => ({
    askers: new Map(askers.map((asker) => [asker, 1])),
    start: (by) => new Promise((end) => started.push({ name, by, end })),
  });
  const add = (name: string, ...askers: string[]) => {
    const one = question(name, ...askers);
    return { one, added: askers.map((asker) => queue.add(asker, one)) };
  };
  return { rate, queue, started, add, question };
}

t.test("turns go round the containers, and those that made few requests come first", async (t) => {
  const clock = { now: 0 };
  const { queue, started, add } = world(100, clock);
  // The hog uses its credit up.
  for (let nth = 0; nth < 40; nth++) {
    add(`hog${nth}`, "hog");
    for (const { end } of started) end();
    await Promise.resolve().then(() => undefined);
  }
  t.equal(started.length, 25, "and all of the rate but the reserve");
  add("a1", "a");
  add("a2", "a");
  add("b1", "b");
  t.same(
    started.slice(25).map(({ name }) => name),
    ["a1", "a2", "b1"],
    "which is for others",
  );
  clock.now = 1000;
  add("hog-last", "hog");
  t.equal(started[28]?.name, "hog25", "in the order of its questions");
  queue.close();
});

t.test(
  "a container has a limit of requests in flight, and the last places are for containers with none",
  async (t) => {
    const clock = { now: 0 };
    const { queue, started, add } = world(10_000, clock);
    const by = (who: string) => started.filter((one) => one.by === who).length;
    for (const who of ["a", "b", "c", "d"]) for (let nth = 0; nth < 20; nth++) add(`${who}${nth}`, who);
    for (const who of ["a", "b", "c"]) t.equal(by(who), queueLimits.inFlightPerContainer, who);
    t.equal(by("d"), 1);
    for (let nth = 0; nth < 10; nth++) add(`n${nth}`, `n${nth}`);
    t.equal(started.length, queueLimits.inFlight);
    const waiting = queue.size.waiting;
    started[0]?.end();
    await Promise.resolve().then(() => undefined);
    await new Promise(setImmediate);
    t.equal(queue.size.waiting, waiting - 1, "a place that becomes free is used");
    queue.close();
  },
);

t.test(
  "a request that several containers wait for is sent once, by the first whose turn comes",
  async (t) => {
    const clock = { now: 0 };
    const { queue, started, add, question } = world(10_000, clock);
    for (let nth = 0; nth < 50; nth++) add(`hog${nth}`, "hog");
    const both = question("both", "hog", "neighbour");
    t.ok(queue.add("hog", both));
    t.ok(queue.add("hog", both), "a second time it has its place already");
    t.ok(queue.add("neighbour", both));
    t.same(
      started.filter(({ name }) => name === "both").map((one) => one.by),
      ["neighbour"],
    );
    t.equal(queue.size.waiting, 50 - queueLimits.inFlightPerContainer);
    queue.close();
  },
);

t.test("places are limited, but a container has a few however many others wait", async (t) => {
  const clock = { now: 0 };
  const { queue, started, add } = world(1, clock);
  let refused = 0;
  for (let who = 0; who < 20; who++)
    for (let nth = 0; nth < 150; nth++)
      if (add(`${who}-${nth}`, `hog${who}`).added.includes(false)) refused++;
  t.ok(refused > 0);
  t.ok(queue.size.waiting <= queueLimits.waiting + 20 * queueLimits.waitingAlways, `${queue.size.waiting}`);
  for (let nth = 0; nth < 10; nth++)
    t.same(add(`n${nth}`, "neighbour").added, [nth < queueLimits.waitingAlways], `its question ${nth}`);
  t.equal(started.length, 1);
  queue.close();
});

t.test("idle containers are forgotten", async (t) => {
  const clock = { now: 0 };
  const { queue, started, add } = world(1_000_000, clock);
  for (let nth = 0; nth < 5000; nth++) {
    add("x", `container${nth}`);
    started.pop()?.end();
    await new Promise(setImmediate);
    clock.now += 10;
  }
  t.ok(queue.size.containers <= 600, `${queue.size.containers} of 5,000 are known`);
  queue.close();
});
