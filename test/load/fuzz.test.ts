import t from "tap";
import { fuzz, reportOf } from "./fuzz.ts";

t.setTimeout(180_000);

/** `node test/load/fuzz.ts 600 SEED` runs for ten minutes. */
const seconds = 20;

t.test(
  "a stream of odd requests does not stop the proxy, does not hang it, and does not make it grow",
  async (t) => {
    const seed = 20_261_122;
    const found = await fuzz(seed, seconds * 1_000);
    t.comment(`measured ${reportOf(found, seed, seconds)}`);
    t.ok(found.connections > 100);
    t.same(found.hung, []);
    t.same(found.leaked, []);
    t.ok(found.served, "it still serves at the end");
    t.notMatch(found.log, /this is a bug|unhandled/i);
    t.same(found.other.failed, [], "another container was served throughout");
    const { before, after } = found.megabytes.inUse;
    t.ok(after < before + 10, `memory returns to its level: ${before} and ${after} MB are in use`);
  },
);
