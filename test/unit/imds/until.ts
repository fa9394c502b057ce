import { setTimeout as sleep } from "node:timers/promises";

/** Rejects if the condition does not hold in time. */
export async function until(holds: () => boolean, withinMs = 10_000): Promise<void> {
  const deadline = Date.now() + withinMs;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`it did not happen within ${withinMs} ms`);
    await sleep(10);
  }
}
