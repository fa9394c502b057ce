import { type Follow, mustRun, type Run } from "../firewall/command.ts";
import { parseAddresses } from "../firewall/host-addresses.ts";
import { ipMonitorArgs, readIpEvent } from "../firewall/ip-events.ts";
import { Monitor } from "../firewall/monitor.ts";
import { NftEvents } from "../firewall/nft-events.ts";
import type { PortLock } from "../firewall/port-lock.ts";
import type { Log } from "../log.ts";
import type { Repair } from "./guard-repair.ts";

type Options = {
  readonly follow: Follow;
  readonly run: Run;
  readonly repair: Pick<Repair, "request" | "requestForIptables" | "restore">;
  readonly lock: Pick<PortLock, "changedBy" | "lookAgain" | "rebuild">;
  readonly log: Log;
  /** A monotonic clock in milliseconds. */
  readonly now: () => number;
  /** Resolves early when the signal is aborted. Never rejects. */
  readonly sleep: (ms: number, signal?: AbortSignal) => Promise<void>;
};

/** The start of a container changes several links and addresses within this time. */
const settleMs = 200;

/** Follows what others do to this host's packet filter, links, addresses and routing rules. */
export function watchHost(options: Options): readonly Monitor[] {
  const { follow, run, repair, lock, log, now, sleep } = options;
  const nft = new NftEvents();
  const linksChanged = afterSettling(sleep, async () => lock.lookAgain());
  let known: string | undefined;
  const addressesChanged = afterSettling(sleep, async () => {
    const listing = await mustRun(run, "reading the host's addresses", "ip", ["addr", "show"]);
    // Most addresses that come and go are those of containers' ports, and not the host's own.
    const addresses = parseAddresses(listing).toSorted().join(" ");
    if (addresses === known) return;
    known = addresses;
    repair.request();
  });
  const monitor = (
    command: string,
    args: readonly string[],
    onLine: (line: string) => void,
    onStart: () => void,
  ) =>
    new Monitor({
      follow,
      command,
      args,
      onLine,
      onStart,
      onEnd: (reason) =>
        log.warn(
          { code: "monitor-ended", command: [command, ...args].join(" "), reason },
          "a monitor ended; it will be restarted",
        ),
      sleep,
      now,
    });
  return [
    monitor(
      "nft",
      ["monitor"],
      (line) => {
        const change = nft.read(line);
        if (change === undefined) return;
        if (change.lock) lock.changedBy(change.marks);
        if (change.removed.length > 0) repair.restore(change.removed);
        else if (change.base) repair.request();
        else if (change.iptables) repair.requestForIptables();
      },
      () => {
        lock.rebuild();
        repair.request();
      },
    ),
    monitor(
      "ip",
      ipMonitorArgs,
      (line) => {
        const change = readIpEvent(line);
        if (change === "routing-rule-removed") repair.restore(["routes"]);
        else if (change === "routing-rule") repair.request();
        else if (change === "link") void linksChanged();
        // Also if it is gone again: the last transaction may have put its index into the table.
        else if (change === "numbered-link") lock.changedBy([]);
        else if (change === "lost") {
          lock.changedBy([]);
          repair.request();
        } else if (change === "address")
          addressesChanged().catch((err: unknown) => {
            log.warn({ code: "addresses-unreadable", err }, "the host's addresses cannot be read");
            repair.request();
          });
      },
      () => {
        lock.lookAgain();
        repair.request();
      },
    ),
  ];
}

/** Runs `act` a moment after the first call, and once for all calls until then. */
function afterSettling(sleep: Options["sleep"], act: () => Promise<void>): () => Promise<void> {
  let isWaiting = false;
  return async () => {
    if (isWaiting) return;
    isWaiting = true;
    await sleep(settleMs);
    // A call while `act` is at work is about something that it may have missed.
    isWaiting = false;
    await act();
  };
}
