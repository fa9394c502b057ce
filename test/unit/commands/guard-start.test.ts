import t from "tap";
import { startLock } from "../../../src/commands/guard-start.ts";
import type { Outcome } from "../../../src/firewall/command.ts";

const listed: Outcome = { kind: "ran", exitCode: 0, stdout: "table bridge x {}\n", stderr: "" };
const failed = (stderr: string): Outcome => ({ kind: "ran", exitCode: 1, stdout: "", stderr });

/** When the lock is started, in seconds. */
async function startedAt(table: Outcome, completeAt: number, abortAt = Number.POSITIVE_INFINITY) {
  const clock = { now: 0 };
  const closing = new AbortController();
  let started = Number.NaN;
  await startLock({
    lock: {
      start: () => {
        started = clock.now / 1_000;
      },
    },
    complete: () => clock.now / 1_000 >= completeAt,
    run: async () => table,
    log: { debug() {}, info() {}, warn() {}, error() {} },
    sleep: async (ms) => {
      clock.now += ms;
      if (clock.now / 1_000 >= abortAt) closing.abort();
    },
    now: () => clock.now,
    signal: closing.signal,
  });
  return started;
}

t.test("where every engine has answered, the lock is started at once", async (t) => {
  t.equal(await startedAt(listed, 0), 0);
});

t.test("the former guard's table stays until an engine that hangs has answered", async (t) => {
  t.equal(await startedAt(listed, 30), 30);
  t.equal(await startedAt(failed("Cannot allocate memory"), 30), 30, "also if it cannot be read");
});

t.test("or until it has lapsed", async (t) => t.equal(await startedAt(listed, 1_000), 120));

t.test("without such a table there is nothing to wait for", async (t) => {
  t.equal(await startedAt(failed("Error: No such file or directory"), 1_000), 0);
  t.equal(await startedAt({ kind: "missing" }, 1_000), 0);
});

t.test("a guard that ends does not wait", async (t) => t.equal(await startedAt(listed, 1_000, 5), 5));
