import t from "tap";
import { Turns } from "../../../src/containers/turns.ts";

t.test(
  "no more than so many run at once, in the order in which they came, and a failure gives its turn back",
  async (t) => {
    const turns = new Turns(2);
    const began: number[] = [];
    let running = 0;
    let most = 0;
    const all = Array.from({ length: 9 }, (_, index) =>
      turns.run(async () => {
        began.push(index);
        running += 1;
        most = Math.max(most, running);
        await new Promise((resolve) => setImmediate(resolve));
        running -= 1;
        if (index % 3 === 0) throw new Error("made to fail");
        return index;
      }),
    );
    const results = await Promise.allSettled(all);
    t.equal(most, 2);
    t.same(began, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    t.equal(results.filter(({ status }) => status === "rejected").length, 3);
    t.equal(await turns.run(async () => "after"), "after");
  },
);
