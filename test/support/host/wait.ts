import { setTimeout as delay } from "node:timers/promises";

/** `undefined` and `false` mean: not yet. */
export type Ask<T> = () => Promise<T | undefined | false> | T | undefined | false;

export type WaitOptions = {
  /** Default: half a minute. */
  readonly timeoutMs?: number;
  readonly everyMs?: number;
  /** Ends the sentence "waiting for". */
  readonly what: string;
};

/** Asks until there is an answer. A rejection counts as not yet; the last one is the cause when time is up. */
export async function waitFor<T>(
  ask: Ask<T>,
  { timeoutMs = 30_000, everyMs = 50, what }: WaitOptions,
): Promise<T> {
  let last: unknown;
  for (const end = Date.now() + timeoutMs; Date.now() < end; await delay(everyMs)) {
    try {
      const answer = await ask();
      if (answer !== undefined && answer !== false) return answer;
    } catch (error) {
      last = error;
    }
  }
  throw new Error(`waiting for ${what}: not so after ${timeoutMs} ms`, { cause: last });
}
