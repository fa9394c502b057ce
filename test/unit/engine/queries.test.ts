import t from "tap";
import { Queries } from "../../../src/engine/queries.ts";

/** Runs a query; resolves with the answer that was applied, or undefined. */
async function ask<T>(
  queries: Queries,
  kind: "inspect" | "announcement",
  id: string,
  query: () => Promise<T>,
): Promise<T | undefined> {
  let applied: T | undefined;
  await queries.run(kind, id, query, (answer) => {
    applied = answer;
  });
  return applied;
}

const nextTick = () => new Promise((resolve) => setImmediate(resolve));

t.test(
  "an answer is applied unless an event for its container arrived after the query was sent",
  async (t) => {
    const failures: string[] = [];
    const queries = new Queries((id, error) => void failures.push(`${id}: ${error}`));
    const held = Promise.withResolvers<string>();
    const stale = ask(queries, "inspect", "a", () => held.promise);
    const other = ask(queries, "inspect", "b", () => held.promise);
    await nextTick();
    queries.invalidate("a");
    const again = ask(queries, "inspect", "a", async () => "newer");
    held.resolve("older");
    t.equal(await stale, undefined);
    t.equal(await again, "newer");
    t.equal(await other, "older", "another container's answer is not affected");
    t.equal(await ask(queries, "inspect", "a", () => Promise.reject(new Error("no"))), undefined);
    t.same(failures, ["a: Error: no"]);
  },
);

for (let ticks = 0; ticks < 12; ticks += 1) {
  t.test(`an event ${ticks} microtasks after an answer is never overwritten by that answer`, async (t) => {
    const queries = new Queries(() => {});
    const held = Promise.withResolvers<string>();
    const order: string[] = [];
    const running = queries.run(
      "inspect",
      "a",
      () => held.promise,
      () => void order.push("answer"),
    );
    await nextTick();
    held.resolve("");
    for (let tick = 0; tick < ticks; tick += 1) await Promise.resolve();
    order.push("event");
    queries.invalidate("a");
    await running;
    t.equal(order.at(-1), "event");
  });
}

t.test("a query that waits for its turn is not stale: it has not been sent yet", async (t) => {
  const queries = new Queries(() => {});
  const held = Promise.withResolvers<string>();
  const eight = Array.from({ length: 8 }, (_, index) =>
    ask(queries, "inspect", `busy${index}`, () => held.promise),
  );
  const ninth = ask(queries, "inspect", "a", async () => "sent after the event");
  queries.invalidate("a");
  t.equal(
    await ask(queries, "announcement", "a", async () => "urgent"),
    "urgent",
    "announcements have a limit of their own",
  );
  held.resolve("");
  await Promise.all(eight);
  t.equal(await ninth, "sent after the event");
});

t.test("after stop no query is sent and no answer is applied", async (t) => {
  const queries = new Queries(() => t.fail("a failure after stop is not reported"));
  const held = Promise.withResolvers<string>();
  const before = ask(queries, "inspect", "a", () => held.promise);
  await nextTick();
  queries.stop();
  held.reject(new Error("closed"));
  t.equal(await before, undefined);
  t.equal(await ask(queries, "inspect", "a", async () => t.fail("sent")), undefined);
});
