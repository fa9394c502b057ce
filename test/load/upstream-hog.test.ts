import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { queueLimits } from "../../src/imds/upstream-queue.ts";
import { countingService, fairProxy, hog, neverReads, steadily, until } from "./upstream-hog.ts";

t.setTimeout(120_000);

const region = "/latest/meta-data/placement/region";
/** Not kept: each is a question to the service. */
const uncached = (who: string) => (nth: number) => `/latest/meta-data/spot/${who}-${nth}`;
const perSecond = 100;
const seconds = 3;

const floods: readonly [name: string, paths: (nth: number) => string, status: number][] = [
  ["paths that are never kept", uncached("hog"), 200],
  ["paths that do not exist", (nth) => `/latest/meta-data/placement/no-${nth}`, 404],
  [
    "every version times every path",
    (nth) => `/20${10 + (nth % 25)}-01-01/meta-data/placement/${nth % 997}`,
    200,
  ],
  ["user-data, each for itself", () => "/latest/user-data", 200],
];

/** The service of the floods: each answer takes a moment, and there are not more of them than packets. */
const limitedService = (t: Test, status: number) =>
  countingService(
    t,
    async (request, response) => {
      await sleep(5);
      response.writeHead(/hog|no-|20\d\d|user-data/.test(request.url ?? "") ? status : 200).end("x");
    },
    true,
  );

t.test("without shares and a rate, a hog of 510 connections makes its neighbour's reads fail", async (t) => {
  const imds = await limitedService(t, 200);
  // Whoever asks is the same container.
  const { port, ask } = await fairProxy(t, { ...imds, requestsPerSecond: 1_000_000 });
  const attack = hog(port, "all", 510, uncached("hog"));
  await sleep(300);
  const seen = await steadily(2000, 100, (nth) => ask("all", uncached("neighbour")(nth)));
  await attack.stop();
  t.ok(imds.count.lost > 0, `${imds.count.lost} requests were lost`);
  t.ok(seen.failures > seen.count / 2, `${seen.failures} of ${seen.count} failed`);
});

for (const [name, paths, status] of floods)
  t.test(`a hog of 510 connections takes nothing from its neighbour: ${name}`, async (t) => {
    const imds = await limitedService(t, status);
    const { port, ask, results } = await fairProxy(t, { ...imds, requestsPerSecond: perSecond });
    await ask("neighbour", region);
    const began = performance.now();
    const attack = hog(port, "hog", 510, paths);
    await sleep(300);
    const [anew, kept] = await Promise.all([
      steadily(seconds * 1000, 100, (nth) => ask("neighbour", uncached("neighbour")(nth))),
      steadily(seconds * 1000, 50, () => ask("neighbour", region)),
    ]);
    const took = (performance.now() - began) / 1000;
    await attack.stop();
    t.equal(anew.failures, 0, "none of its reads fails");
    t.equal(kept.failures, 0, "nor of those that are kept");
    t.ok(anew.count >= 10 && kept.count >= 20, `${anew.count} and ${kept.count} reads`);
    // What a kept answer takes is the test's own work.
    t.ok(anew.p99 < kept.p99 + 500, `p99 anew ${anew.p99.toFixed(0)} ms, kept ${kept.p99.toFixed(0)} ms`);
    t.equal(imds.asked.filter(({ path }) => path === region).length, 1, "what it uses stays kept");
    t.equal(imds.count.lost, 0, "the service loses none");
    const most = perSecond * took + perSecond / 2 + 10;
    t.ok(imds.asked.length <= most, `${imds.asked.length} requests in ${took.toFixed(1)} s`);
    t.ok(imds.asked.length >= perSecond * took * 0.3, "and the rate is used");
    t.ok(
      imds.count.mostInFlight <= queueLimits.inFlightPerContainer * 2,
      `${imds.count.mostInFlight} at a time`,
    );
    const refused = results.filter((result) => result.container === "hog" && result.code === "upstream-busy");
    t.ok(refused.length > 0, `the hog was refused ${refused.length} times`);
    t.comment(
      `measured: neighbour anew p50 ${anew.p50.toFixed(1)} p99 ${anew.p99.toFixed(1)} ms, kept p99 ${kept.p99.toFixed(1)} ms, service ${(imds.asked.length / took).toFixed(0)}/s, hog ${JSON.stringify([...attack.statuses])}`,
    );
  });

t.test("many hogs together take little more than one", async (t) => {
  const imds = await countingService(t, async (_, response) => {
    await sleep(5);
    response.end("x");
  });
  const { port, ask } = await fairProxy(t, imds);
  const attacks = Array.from({ length: 12 }, (_, nth) => hog(port, `hog${nth}`, 40, uncached(`hog${nth}`)));
  // They are soon known for what they are.
  await sleep(3000);
  const seen = await steadily(3000, 150, (nth) => ask("neighbour", uncached("neighbour")(nth)));
  await Promise.all(attacks.map((attack) => attack.stop()));
  t.equal(seen.failures, 0);
  t.ok(seen.p50 < 250, `p50 ${seen.p50.toFixed(0)} ms`);
  t.ok(imds.count.mostInFlight <= queueLimits.inFlight, `${imds.count.mostInFlight} at a time`);
  t.comment(`measured: 12 hogs, neighbour p50 ${seen.p50.toFixed(1)} p99 ${seen.p99.toFixed(1)} ms`);
});

t.test("where the service is slow, containers that hold no connection to it find one", async (t) => {
  const imds = await countingService(t, async (_, response) => {
    await sleep(1000);
    response.end("x");
  });
  const { port, ask } = await fairProxy(t, { ...imds, requestsPerSecond: 1000 });
  const attacks = Array.from({ length: 5 }, (_, nth) => hog(port, `hog${nth}`, 60, uncached(`hog${nth}`)));
  await until(() => imds.count.inFlight >= 24);
  const reply = await ask("neighbour", uncached("neighbour")(0));
  await Promise.all(attacks.map((attack) => attack.stop()));
  t.equal(reply.status, 200);
  t.ok(reply.ms < 1500, `after ${reply.ms.toFixed(0)} ms`);
});

t.test("beyond its places a container is told at once to come again, and within them in time", async (t) => {
  const imds = await countingService(t, () => undefined);
  const { ask, results } = await fairProxy(t, { ...imds, requestsPerSecond: 1000, timeoutMs: 5000 });
  const places = queueLimits.inFlightPerContainer + queueLimits.waitingPerContainer;
  const replies: Awaited<ReturnType<typeof ask>>[] = [];
  for (let nth = 0; nth < places + 20; nth++)
    void ask("hog", uncached("hog")(nth)).then(
      (reply) => replies.push(reply),
      () => undefined,
    );
  await until(() => replies.length === 20);
  t.ok(replies.every(({ status, retryAfter, ms }) => status === 503 && retryAfter === "1" && ms < 1000));
  await until(() => replies.length === 20 + queueLimits.waitingPerContainer);
  const late = replies.slice(20);
  t.ok(late.every(({ status, retryAfter, ms }) => status === 503 && retryAfter === "1" && ms < 3500));
  t.ok(results.every(({ code, reason }) => code === "upstream-busy" && reason !== undefined));
  t.match(results[0], { reason: /^asking for \/latest\/meta-data\/spot\/hog-\d+: too many/ });
  t.match(results.at(-1), { reason: /its turn did not come within 2000 ms/ });
  t.equal(imds.asked.length, queueLimits.inFlightPerContainer);
});

t.test("who joins a question in a hog's queue has its answer when its own turn comes", async (t) => {
  const imds = await countingService(t, async (_, response) => {
    await sleep(100);
    response.end("x");
  });
  const { ask, results } = await fairProxy(t, { ...imds, requestsPerSecond: 1000 });
  const path = uncached("hog");
  const all = Array.from({ length: 120 }, (_, nth) => ask("hog", path(nth)).catch(() => undefined));
  await until(() => imds.asked.length >= queueLimits.inFlightPerContainer);
  const reply = await ask("neighbour", path(119));
  t.equal(reply.status, 200);
  t.ok(reply.ms < 400, `after ${reply.ms.toFixed(0)} ms`);
  await Promise.all(all);
  t.equal(imds.asked.filter((asked) => asked.path === path(119)).length, 1, "one question for both");
  t.ok(
    results.some(
      ({ container, path: of, status }) => container === "hog" && of === path(119) && status === 200,
    ),
  );
});

t.test("a client that goes away takes its place with it, unless another wants the answer", async (t) => {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  const imds = await countingService(t, async (_, response) => {
    await opened;
    response.end("x");
  });
  const { ask, port } = await fairProxy(t, { ...imds, requestsPerSecond: 1000 });
  const held = Array.from({ length: 8 }, (_, nth) => ask("hog", uncached("held")(nth)));
  await until(() => imds.asked.length === 8);
  const leaving = [
    ...Array.from({ length: 60 }, (_, nth) => neverReads(t, port, "hog", uncached("left")(nth))),
    ...Array.from({ length: 60 }, () => neverReads(t, port, "hog", "/latest/user-data")),
  ];
  const staying = ask("hog", uncached("left")(7));
  await sleep(300);
  for (const socket of leaving) socket.destroy();
  await sleep(300);
  // All places are free again.
  const after = Array.from({ length: 120 }, (_, nth) => ask("hog", uncached("after")(nth)));
  await sleep(200);
  open();
  t.ok((await Promise.all([...held, staying, ...after])).every(({ status }) => status === 200));
  t.same(
    imds.asked.map(({ path }) => path).filter((path) => /left|user-data/.test(path)),
    [uncached("left")(7)],
  );
});

t.test("what the proxy itself needs waits for no container", async (t) => {
  const imds = await countingService(t, async (_, response) => {
    await sleep(200);
    response.end("x");
  });
  const { port, upstream } = await fairProxy(t, { ...imds, requestsPerSecond: 10 });
  const attacks = Array.from({ length: 8 }, (_, nth) => hog(port, `hog${nth}`, 60, uncached(`hog${nth}`)));
  await sleep(500);
  const began = performance.now();
  // The one is new; the other stands in a hog's queue.
  const all = await Promise.all([
    upstream.text("/latest/meta-data/instance-id"),
    upstream.text(uncached("hog3")(55)),
  ]);
  const ms = performance.now() - began;
  await Promise.all(attacks.map((attack) => attack.stop()));
  t.same(all, ["x", "x"]);
  t.ok(ms < 500, `after ${ms.toFixed(0)} ms`);
});

t.test("listings that containers ask for are in their own queues", async (t) => {
  const imds = await countingService(t, () => undefined);
  const { upstream } = await fairProxy(t, { ...imds, requestsPerSecond: 1000 });
  const texts = Array.from({ length: 20 }, (_, nth) => upstream.text(`${uncached("hog")(nth)}/`, "hog"));
  await until(() => imds.asked.length === 8);
  await sleep(100);
  t.equal(imds.asked.length, 8);
  upstream.close();
  t.ok((await Promise.allSettled(texts)).every(({ status }) => status === "rejected"));
});

t.test("slow readers hold memory of their own share, and no connection to the service", async (t) => {
  const data = Buffer.alloc(900_000, "x");
  const imds = await countingService(t, (_, response) =>
    response.writeHead(200, { "Content-Length": String(data.length) }).end(data),
  );
  const { port, ask, results } = await fairProxy(t, { ...imds, timeoutMs: 2500 });
  // The kernel takes some megabytes of each connection's answers; the rest would be ours to hold.
  for (let nth = 0; nth < 8; nth++) neverReads(t, port, "hog", "/latest/user-data", 12);
  const ofHog = () => results.filter(({ container }) => container === "hog");
  await until(() => ofHog().some(({ code }) => code === "upstream-busy"));
  t.match(
    ofHog().find(({ code }) => code === "upstream-busy"),
    { status: 503, reason: /too many unread answers/ },
  );
  await until(() => imds.count.inFlight === 0);
  for (const path of ["/latest/user-data", uncached("neighbour")(0)]) {
    const reply = await ask("neighbour", path);
    t.equal(reply.status, 200, path);
    t.ok(reply.ms < 500, `after ${reply.ms.toFixed(0)} ms`);
  }
  await until(() => ofHog().length === 96);
  t.match(
    results.find(({ reason }) => /has not read the answer/.test(reason ?? "")),
    { reason: /the client has not read the answer after 2500 ms/ },
  );
  t.equal((await ask("hog", "/latest/user-data")).status, 200, "and its share is free again");
});

t.test("a service that throttles is asked less, and its answers stay what they are", async (t) => {
  for (const status of [429, 503]) {
    let throttling = true;
    const imds = await countingService(t, async (_, response) => {
      response.writeHead(throttling ? status : 200).end("x");
    });
    const { port, ask } = await fairProxy(t, imds);
    t.equal((await ask("neighbour", uncached("first")(0))).status, status);
    const attack = hog(port, "hog", 64, uncached("hog"));
    await sleep(3000);
    const before = imds.asked.length;
    await sleep(1000);
    const slow = imds.asked.length - before;
    t.ok(slow <= 40, `${slow} requests in a second of 100`);
    throttling = false;
    const reply = await ask("neighbour", uncached("neighbour")(0));
    t.equal(reply.status, 200);
    t.ok(reply.ms < 500, `after ${reply.ms.toFixed(0)} ms`);
    await attack.stop();
  }
});
