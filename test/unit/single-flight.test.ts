import t from "tap";
import { singleFlight } from "../../src/single-flight.ts";

t.test("calls while one is under way share its result, and the next call starts anew", async (t) => {
  const gates: Array<PromiseWithResolvers<number>> = [];
  const read = singleFlight(() => {
    const gate = Promise.withResolvers<number>();
    gates.push(gate);
    return gate.promise;
  });
  const [first, second] = [read(), read()];
  t.equal(gates.length, 1);
  gates[0]?.resolve(1);
  t.same(await Promise.all([first, second]), [1, 1]);
  const third = read();
  t.equal(gates.length, 2);
  gates[1]?.resolve(2);
  t.equal(await third, 2);
});

t.test("a failure reaches all who share the call, and is not remembered", async (t) => {
  let calls = 0;
  const read = singleFlight(async () => {
    calls += 1;
    if (calls === 1) throw new Error("made to fail");
    return calls;
  });
  const results = await Promise.allSettled([read(), read()]);
  t.same(
    results.map(({ status }) => status),
    ["rejected", "rejected"],
  );
  t.equal(await read(), 2);
});

t.test("the arguments of the call that starts it count", async (t) => {
  const read = singleFlight(async (name: string) => name);
  t.same(await Promise.all([read("first"), read("second")]), ["first", "first"]);
  t.equal(await read("third"), "third");
});
