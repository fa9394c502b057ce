import t from "tap";
import type { Answer } from "../../../src/imds/answers.ts";
import { sharing, UpstreamCache } from "../../../src/imds/upstream-cache.ts";
import { UpstreamFlights } from "../../../src/imds/upstream-flights.ts";
import { UpstreamQueue } from "../../../src/imds/upstream-queue.ts";
import { UpstreamRate } from "../../../src/imds/upstream-rate.ts";

const answer = (body: string, status = 200): Answer => ({ status, headers: [], body });
/** The cache and the requests that fill it, as in Upstream. `asker` is a container. */
function reading(options: ConstructorParameters<typeof UpstreamCache>[0], asker = "one") {
  const cache = new UpstreamCache(options);
  const rate = new UpstreamRate(10_000, options.now);
  const flights = new UpstreamFlights(new UpstreamQueue({ rate, now: options.now }), 2000);
  const owners = new Map<string, string>();
  /** The answers that are cached now. Each is read as its owner, so that no answer counts as shared. */
  const cached = () =>
    [...owners].map(([path, by]) => cache.get(path, by)).filter((one) => one !== undefined);
  return {
    get: (path: string, by = asker) => cache.get(path, by),
    read: async (path: string, fetch: () => Promise<Answer>, by = asker) =>
      cache.get(path, by) ??
      (await flights.join(path, by, async (first, askers) => {
        const got = await fetch();
        owners.set(path, by);
        cache.keep(path, got, first, askers.size > 1);
        return got;
      })),
    entries: () => cached().length,
    bytes: () => cached().reduce((sum, { body }) => sum + 1024 + body.length, 0),
  };
}
const path = (name: string) => `/latest/meta-data/placement/${name}`;

const cases: readonly [string, ReturnType<typeof sharing>][] = [
  ["/latest/meta-data/instance-id", "kept"],
  ["/2021-03-23/meta-data/placement/availability-zone/", "kept"],
  ["/latest/meta-data/", "briefly"],
  ["/latest/", "briefly"],
  ["/latest", "briefly"],
  ["/", "briefly"],
  ["/latest/meta-data/spot/instance-action", "joined"],
  ["/latest/meta-data/autoscaling/target-lifecycle-state", "joined"],
  ["/latest/meta-data/network/interfaces/macs/", "joined"],
  ["/latest/user-data", "alone"],
  ["/latest/dynamic/instance-identity/document", "alone"],
];
for (const [asked, expected] of cases)
  t.test(`answers for ${asked} are ${expected}`, async (t) => {
    t.equal(sharing(asked), expected);
  });

t.test("the cache is bounded in entries and bytes, and the oldest are evicted first", async (t) => {
  const cache = reading({
    cacheSeconds: 60,
    now: () => 0,
    limits: { entries: 10, bytes: 100_000 },
  });
  for (let nth = 0; nth < 25; nth++) await cache.read(path(String(nth)), async () => answer("x"));
  t.equal(cache.entries(), 10);
  t.equal(cache.get(path("14")), undefined);
  t.same(cache.get(path("15")), answer("x"));
  for (let nth = 0; nth < 100; nth++)
    await cache.read(path(`long${nth}`), async () => answer("x".repeat(5000)));
  t.ok(cache.bytes() <= 100_000);
  await cache.read(path("huge"), async () => answer("x".repeat(50_000)));
  t.equal(cache.get(path("huge")), undefined, "one that would drive out all others is not kept");
});

t.test("an entry that is read again after it expired is counted once", async (t) => {
  let now = 0;
  const cache = reading({ cacheSeconds: 1, now: () => now, limits: { entries: 100, bytes: 16 * 1025 } });
  for (let round = 0; round < 20; round++) {
    await cache.read(path("a"), async () => answer("x"));
    now += 1000;
  }
  t.equal(cache.get(path("a")), undefined);
  for (let nth = 0; nth < 16; nth++) await cache.read(path(String(nth)), async () => answer("x"));
  t.equal(cache.entries(), 16, "all of the container's quota is free again");
  t.equal(cache.bytes(), 16 * 1025);
  now += 1000;
  t.equal(cache.entries(), 0);
});

t.test("a failure rejects all requests that wait, and the next one asks again", async (t) => {
  const cache = reading({ cacheSeconds: 60, now: () => 0 });
  let calls = 0;
  const failing = async () => {
    calls++;
    throw new Error("no");
  };
  const all = await Promise.allSettled([1, 2, 3].map(() => cache.read(path("a"), failing)));
  t.ok(all.every(({ status }) => status === "rejected"));
  t.equal(calls, 1);
  t.same(await cache.read(path("a"), async () => answer("x")), answer("x"));
  await cache.read(path("b"), async () => answer("", 503));
  t.equal(cache.get(path("b")), undefined, "an error is not kept");
});

t.test("no request of a container evicts what another one uses", async (t) => {
  const limits = { entries: 20, bytes: 1_000_000 };
  const { entries, read, get } = reading({ cacheSeconds: 60, now: () => 0, limits });
  await read(path("region"), async () => answer("eu-west-1"), "neighbour");
  await read(path("mine-first"), async () => answer("x"), "hog");
  t.ok(get(path("mine-first"), "neighbour"), "the hog asked first, the neighbour uses it");
  // Every version times every path: all of them are there, and all are kept answers.
  for (let version = 0; version < 25; version++)
    for (let nth = 0; nth < 60; nth++)
      await read(`/20${10 + version}-01-01/meta-data/placement/${nth}`, async () => answer("x"), "hog");
  t.same(get(path("region"), "neighbour"), answer("eu-west-1"));
  t.same(get(path("mine-first"), "neighbour"), answer("x"));
  t.equal(entries(), 21);
  for (let nth = 0; nth < 100; nth++)
    await read(path(`absent${nth}`), async () => answer("none", 404), "hog");
  t.same(get(path("region"), "neighbour"), answer("eu-west-1"), "a flood of 404 neither");
  t.equal(entries(), 21 + 64, "which have a room of their own");
});

t.test("if the cache is full, a new answer is not kept and no valid one is evicted", async (t) => {
  let now = 0;
  const each = { entries: 10, bytes: 1_000_000 };
  const total = { entries: 15, bytes: 1_000_000 };
  const { entries, read, get } = reading({ cacheSeconds: 60, now: () => now, limits: each, total });
  for (const by of ["a", "b"])
    for (let nth = 0; nth < 10; nth++) await read(path(`${by}${nth}`), async () => answer("x"), by);
  t.equal(entries(), 15);
  t.ok(get(path("a0"), "a"), "a was first, and keeps all of it");
  t.same(await read(path("c"), async () => answer("y"), "c"), answer("y"), "c has its answer");
  t.equal(get(path("c"), "c"), undefined, "but it is not kept");
  now = 60_000;
  await read(path("c"), async () => answer("y"), "c");
  t.ok(get(path("c"), "c"), "old ones make room");
  t.equal(entries(), 1);
});

t.test("a container whose answers are all used by others cannot exceed its quota", async (t) => {
  const limits = { entries: 10, bytes: 1_000_000 };
  const { entries, read, get } = reading({ cacheSeconds: 60, now: () => 0, limits });
  for (let nth = 0; nth < 30; nth++) {
    await read(path(String(nth)), async () => answer("x"), "hog");
    get(path(String(nth)), "accomplice");
  }
  t.equal(entries(), 10);
  t.ok(get(path("0"), "hog"));
});
