import t from "tap";
import { startLock } from "../../../src/commands/guard-start.ts";
import type { Outcome } from "../../../src/firewall/command.ts";
import type { FormerElement } from "../../../src/firewall/lock-table.ts";

const ran = (stdout: string): Outcome => ({ kind: "ran", exitCode: 0, stdout, stderr: "" });
const failed = (stderr: string): Outcome => ({ kind: "ran", exitCode: 1, stdout: "", stderr });
const table = JSON.stringify({
  nftables: [{ set: { name: "port_mac", elem: [{ concat: ["veth1", "02:42:ac:11:00:02"] }] } }],
});
const element: FormerElement = { port: 7, kind: "mac", value: "02:42:ac:11:00:02" };

/** What the lock is started with, and when what is left of the former one is forgotten, in seconds. */
async function start(nft: Outcome, completeAt: number, abortAt = Number.POSITIVE_INFINITY) {
  const clock = { now: 0 };
  const closing = new AbortController();
  const calls: (readonly [what: string, second: number, former?: readonly FormerElement[]])[] = [];
  const { whole } = await startLock({
    lock: {
      start: (former) => void calls.push(["start", clock.now / 1_000, former ?? []]),
      forgetFormer: () => void calls.push(["forget", clock.now / 1_000]),
    },
    complete: () => clock.now / 1_000 >= completeAt,
    run: async (command) => (command === "nft" ? nft : ran('[{"ifindex":7,"ifname":"veth1"}]')),
    log: { debug() {}, info() {}, warn() {}, error() {} },
    sleep: async (ms) => {
      clock.now += ms;
      if (clock.now / 1_000 >= abortAt) closing.abort();
    },
    signal: closing.signal,
  });
  await whole;
  return calls;
}

t.test("where every engine has answered, nothing of the former lock stays", async (t) => {
  t.same(await start(ran(table), 0), [
    ["start", 0, []],
    ["forget", 0],
  ]);
});

t.test(
  "the lock is started at once, and what was locked stays until every engine has answered",
  async (t) => {
    t.same(await start(ran(table), 300), [
      ["start", 0, [element]],
      ["forget", 300],
    ]);
  },
);

t.test("without a former lock there is nothing to wait for", async (t) => {
  for (const nft of [failed("Error: No such file or directory"), { kind: "missing" } as const, ran("{")])
    t.same(await start(nft, 1_000), [
      ["start", 0, []],
      ["forget", 0],
    ]);
});

t.test("a guard that ends does not wait", async (t) => {
  t.same((await start(ran(table), 1_000, 5)).at(-1), ["forget", 5]);
});
