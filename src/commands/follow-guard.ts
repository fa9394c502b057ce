import type { Directory } from "../containers/directory.ts";
import type { Clocks } from "../credentials/clock.ts";
import type { Change } from "../engine/sync.ts";
import { GuardSubscriber } from "../guard/subscriber.ts";
import type { Log } from "../log.ts";
import type { Engines, FollowedGuard } from "./engines.ts";

/**
 * The kernel keeps the lock for 120 s without the guard (firewall/lock-table.ts). The guard renews that every
 * 40 s, so its last renewal may be that much older than its last message.
 */
const lockLastsMs = 80_000;

type FollowOptions = Clocks & {
  readonly directory: Directory;
  readonly log: Log;
  readonly onChange?: (change: Change) => void;
};

/**
 * Keeps the directory true to what the guard publishes. No engine is contacted.
 * @param path of the guard's socket; it need not exist yet
 */
export function followGuard(
  path: string,
  { onChange, ...options }: FollowOptions,
): Engines & { readonly guard: FollowedGuard } {
  const { directory } = options;
  const guard = new GuardSubscriber({
    ...options,
    path,
    onChange: (change) => onChange?.(change),
    lockLastsMs,
  });
  return {
    guard: { path, state: () => guard.state(), locks: guard },
    listed: guard.settled,
    states: () => {
      const { connected: isGuarded, engines } = guard.state();
      return engines.map(({ host, connected, since, lastError, apiVersion, engine }) => ({
        host,
        connected: connected && isGuarded,
        since,
        lastError: isGuarded ? lastError : "the guard, which follows it, is not connected",
        apiVersion,
        engine,
        containers: directory.owned(host).size,
      }));
    },
    complete: () => guard.complete(),
    refresh: guard.refresh,
    stop: () => guard.close(),
  };
}
