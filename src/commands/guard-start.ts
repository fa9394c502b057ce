import type { Run } from "../firewall/command.ts";
import { aliveSeconds, lockTable } from "../firewall/lock-table.ts";
import { nftTable } from "../firewall/nft-table.ts";
import type { PortLock } from "../firewall/port-lock.ts";
import type { Log } from "../log.ts";

type Options = {
  readonly lock: Pick<PortLock, "start">;
  /** Whether the containers of every engine are known. */
  readonly complete: () => boolean;
  readonly run: Run;
  readonly log: Log;
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  /** A monotonic clock in milliseconds. */
  readonly now: () => number;
  /** Ends the wait. */
  readonly signal: AbortSignal;
};

const lookAgainMs = 250;

/**
 * Starts the port lock, which replaces the table that the previous guard has left in force. As long as an
 * engine does not answer, that one is better: the proxy still knows containers as locked that a new table
 * would leave out. It has lapsed after `aliveSeconds`. Never rejects.
 */
export async function startLock({ lock, complete, run, log, sleep, now, signal }: Options): Promise<void> {
  const until = now() + aliveSeconds * 1_000;
  if (!complete() && (await isLeft(run))) {
    log.warn(
      { code: "engine-late" },
      "an engine does not answer; the port lock of the previous guard stays in force until it does, or lapses",
    );
    while (!complete() && now() < until && !signal.aborted) await sleep(lookAgainMs, signal);
  }
  lock.start();
}

async function isLeft(run: Run): Promise<boolean> {
  try {
    return (await nftTable(run, lockTable).list()) !== undefined;
  } catch {
    return true;
  }
}
