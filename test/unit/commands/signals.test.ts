import { setImmediate as turn } from "node:timers/promises";
import t from "tap";
import { listenForSignals } from "../../../src/commands/signals.ts";

/** Signals that the test sends. */
function fixture() {
  const handlers = new Map<string, () => void>();
  const signals = listenForSignals({ on: (signal, run) => void handlers.set(signal, run) });
  return { ...signals, send: (signal: string) => handlers.get(signal)?.() };
}

t.test("a reload that was requested during the start runs when the service can reload", async (t) => {
  const { onReload, send } = fixture();
  let reloads = 0;
  send("SIGHUP");
  await turn();
  t.equal(reloads, 0);
  onReload(async () => void reloads++);
  await turn();
  t.equal(reloads, 1);
});

t.test("reloads run one at a time, and none is lost", async (t) => {
  const { onReload, send } = fixture();
  const ends: (() => void)[] = [];
  onReload(() => new Promise<void>((resolve) => void ends.push(resolve)));
  send("SIGHUP");
  send("SIGHUP");
  await turn();
  t.equal(ends.length, 1);
  ends[0]?.();
  await turn();
  t.equal(ends.length, 2);
});

for (const signal of ["SIGTERM", "SIGINT"]) {
  t.test(`${signal} stops the service`, async () => {
    const { stop, send } = fixture();
    send(signal);
    await stop;
  });
}
