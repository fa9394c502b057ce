import t from "tap";
import type { Answer } from "../../../src/imds/errors.ts";
import { sharing, UpstreamCache } from "../../../src/imds/upstream-cache.ts";

const answer = (body: string, status = 200): Answer => ({ status, headers: [], body });
const path = (name: string) => `/latest/meta-data/placement/${name}`;

t.test("what may be reused depends on what it is", async (t) => {
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
  for (const [asked, expected] of cases) t.equal(sharing(asked), expected, asked);
});

t.test("the cache is bounded in entries and bytes, and the oldest go first", async (t) => {
  const cache = new UpstreamCache({
    cacheSeconds: 60,
    now: () => 0,
    limits: { entries: 10, bytes: 100_000 },
  });
  for (let nth = 0; nth < 25; nth++) await cache.read(path(String(nth)), async () => answer("x"));
  t.same(cache.size.entries, 10);
  t.equal(cache.get(path("14")), undefined);
  t.same(cache.get(path("15")), answer("x"));
  for (let nth = 0; nth < 100; nth++)
    await cache.read(path(`long${nth}`), async () => answer("x".repeat(5000)));
  t.ok(cache.size.bytes <= 100_000);
  await cache.read(path("huge"), async () => answer("x".repeat(50_000)));
  t.equal(cache.get(path("huge")), undefined, "one that would drive out all others is not kept");
});

t.test("an entry that is read anew is counted once", async (t) => {
  let now = 0;
  const cache = new UpstreamCache({ cacheSeconds: 1, now: () => now });
  for (let round = 0; round < 5; round++) {
    await cache.read(path("a"), async () => answer("x"));
    now += 1000;
  }
  t.same(cache.size, { entries: 1, bytes: 1025 });
  t.equal(cache.get(path("a")), undefined);
  t.same(cache.size, { entries: 0, bytes: 0 });
});

t.test("a failure is told to all who wait, and the next one asks again", async (t) => {
  const cache = new UpstreamCache({ cacheSeconds: 60, now: () => 0 });
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
