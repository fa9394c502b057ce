import { setTimeout as delay } from "node:timers/promises";

/** `undefined` and `false` mean "not yet". */
export type Poll<T> = () => Promise<T | undefined | false> | T | undefined | false;

export type WaitOptions = {
  /** Default: half a minute. */
  readonly timeoutMs?: number;
  readonly everyMs?: number;
  /** Completes the sentence "waiting for ...". */
  readonly what: string;
};

/**
 * Polls until there is a result. A rejection means "not yet"; the last one becomes the cause of the timeout
 * error.
 */
export async function waitFor<T>(
  poll: Poll<T>,
  { timeoutMs = 30_000, everyMs = 50, what }: WaitOptions,
): Promise<T> {
  let last: unknown;
  for (const end = Date.now() + timeoutMs; Date.now() < end; await delay(everyMs)) {
    try {
      const result = await poll();
      if (result !== undefined && result !== false) return result;
    } catch (error) {
      last = error;
    }
  }
  throw new Error(`waiting for ${what}: timed out after ${timeoutMs} ms`, { cause: last });
}
