import type { Run } from "../firewall/command.ts";
import { readFormerLock } from "../firewall/former-lock.ts";
import type { PortLock } from "../firewall/port-lock.ts";
import type { Log } from "../log.ts";

type Options = {
  readonly lock: Pick<PortLock, "start" | "forgetFormer">;
  /** Whether the containers of every engine are known. */
  readonly complete: () => boolean;
  readonly run: Run;
  readonly log: Log;
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  /** Ends the wait. */
  readonly signal: AbortSignal;
};

const lookAgainMs = 1_000;

/**
 * Starts the port lock, which replaces the table that a former guard has left in force. As long as an engine
 * does not answer, what that table has for its containers stays: a new table would leave them out.
 * @returns what goes on until every engine has answered. Neither promise rejects.
 */
export async function startLock({ lock, complete, run, log, sleep, signal }: Options): Promise<{
  readonly whole: Promise<void>;
}> {
  const former = complete() ? [] : await readFormerLock(run);
  lock.start(former);
  if (former.length > 0)
    log.warn(
      { code: "engine-late" },
      "an engine does not answer; what the former guard has locked stays locked until it does",
    );
  const wait = async () => {
    while (former.length > 0 && !complete() && !signal.aborted) await sleep(lookAgainMs, signal);
    lock.forgetFormer();
  };
  return { whole: wait() };
}
