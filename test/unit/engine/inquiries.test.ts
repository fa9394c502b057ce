import t from "tap";
import { Inquiries } from "../../../src/engine/inquiries.ts";

t.test("an answer counts unless something happened to its container since it was asked", async (t) => {
  const failures: string[] = [];
  const inquiries = new Inquiries((id, error) => void failures.push(`${id}: ${error}`));
  const held = Promise.withResolvers<string>();
  const overtaken = inquiries.ask("inspect", "a", () => held.promise);
  const other = inquiries.ask("inspect", "b", () => held.promise);
  await new Promise((resolve) => setImmediate(resolve));
  inquiries.overtake("a");
  const again = inquiries.ask("inspect", "a", async () => "newer");
  held.resolve("older");
  t.equal(await overtaken, undefined);
  t.equal(await again, "newer");
  t.equal(await other, "older", "another container's answer is not touched");
  t.equal(await inquiries.ask("inspect", "a", () => Promise.reject(new Error("no"))), undefined);
  t.same(failures, ["a: Error: no"]);
});

t.test("a question that still waits for its turn is not overtaken: it has not been asked yet", async (t) => {
  const inquiries = new Inquiries(() => {});
  const held = Promise.withResolvers<string>();
  const eight = Array.from({ length: 8 }, (_, index) =>
    inquiries.ask("inspect", `busy${index}`, () => held.promise),
  );
  const ninth = inquiries.ask("inspect", "a", async () => "asked after the event");
  inquiries.overtake("a");
  t.equal(
    await inquiries.ask("announcement", "a", async () => "in a hurry"),
    "in a hurry",
    "it has turns of its own",
  );
  held.resolve("");
  await Promise.all(eight);
  t.equal(await ninth, "asked after the event");
});

t.test("after the end nothing is asked, and nothing counts", async (t) => {
  const inquiries = new Inquiries(() => t.fail("a failure after the end is nobody's concern"));
  const held = Promise.withResolvers<string>();
  const before = inquiries.ask("inspect", "a", () => held.promise);
  await new Promise((resolve) => setImmediate(resolve));
  inquiries.stop();
  held.reject(new Error("closed"));
  t.equal(await before, undefined);
  t.equal(await inquiries.ask("inspect", "a", async () => t.fail("asked")), undefined);
});
