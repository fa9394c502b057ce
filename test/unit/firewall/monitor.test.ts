import t from "tap";
import { Monitor } from "../../../src/firewall/monitor.ts";

type Ended = (reason: string) => void;

/** A command that runs until the test ends it, and a clock that the test moves. */
function fixture(t: { teardown(run: () => Promise<void>): void }) {
  const runs: { readonly line: (text: string) => void; readonly end: Ended }[] = [];
  const sleeps: { readonly ms: number; readonly wake: () => void }[] = [];
  const seen: string[] = [];
  const clock = { now: 0 };
  const monitor = new Monitor({
    follow: (_command, _args, onLine, signal) => {
      const { promise, resolve } = Promise.withResolvers<string>();
      signal.addEventListener("abort", () => resolve("aborted"));
      runs.push({ line: onLine, end: resolve });
      return promise;
    },
    command: "nft",
    args: ["monitor"],
    onLine: (line) => seen.push(line),
    onStart: () => seen.push("started"),
    onEnd: (reason) => seen.push(`ended: ${reason}`),
    sleep: (ms, signal) => {
      const { promise, resolve } = Promise.withResolvers<void>();
      signal.addEventListener("abort", () => resolve());
      sleeps.push({ ms, wake: resolve });
      return promise;
    },
    now: () => clock.now,
  });
  t.teardown(() => monitor.close());
  return { monitor, runs, sleeps, seen, clock };
}
const turn = () => new Promise((resolve) => setImmediate(resolve));

t.test(
  "its lines are passed on, and a moment after the start it is said that some may be missing",
  async (t) => {
    const { runs, sleeps, seen } = fixture(t);
    runs[0]?.line("add table x");
    sleeps[0]?.wake();
    await turn();
    t.same(seen, ["add table x", "started"]);
  },
);

t.test("a command that ends is started again, later after each failure", async (t) => {
  const { runs, sleeps, seen, clock } = fixture(t);
  const pauses: (number | undefined)[] = [];
  for (let round = 0; round < 10; round++) {
    runs.at(-1)?.end("killed");
    await turn();
    pauses.push(sleeps.at(-1)?.ms);
    sleeps.at(-1)?.wake();
    await turn();
  }
  t.same(pauses, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
  t.equal(runs.length, 11);
  t.equal(seen.filter((line) => line === "ended: killed").length, 10);
  t.notOk(seen.includes("started"), "it never ran for long enough to have subscribed");
  clock.now += 61_000;
  runs.at(-1)?.end("killed");
  await turn();
  t.equal(sleeps.at(-1)?.ms, 500, "after a minute of work, the next failure is the first");
});

t.test("closing ends the command and starts no other", async (t) => {
  const { monitor, runs, seen } = fixture(t);
  await monitor.close();
  await turn();
  t.equal(runs.length, 1);
  t.same(seen, []);
});
