import { join } from "node:path";
import { isSea } from "node:sea";
import { exitCodes, OperatorError } from "../errors.ts";
import { printable } from "../text.ts";

/** The notifications to systemd (sd_notify(3)). Without systemd, each of them does nothing. */
export type Notifier = {
  /** Started, or reloaded: clients are served. */
  readonly ready: () => void;
  /** Re-reading the configuration; `ready` ends it. */
  readonly reloading: () => void;
  /** Ending the requests in progress. */
  readonly stopping: () => void;
  /** The line that `systemctl status` shows. */
  readonly status: (text: string) => void;
  /**
   * WatchdogSec= of the unit: systemd kills and restarts the service if no ping comes within it. 0: no
   * watchdog.
   */
  readonly watchdogIntervalMs: number;
  /** The ping. Call it at half the interval, from the event loop, which must not hang. */
  readonly watchdog: () => void;
};

type NotifierSettings = {
  /** NOTIFY_SOCKET: set where systemd waits for notifications. */
  readonly notifySocket: string | undefined;
  /** sd-notify's native addon. */
  readonly addonPath?: string;
};

/**
 * sd-notify's native addon (notify.cc of version 2.8). Its JavaScript part is not used: it searches several
 * folders for the addon.
 */
type Addon = {
  ready(pid: number): void;
  stopping(pid: number): void;
  sendState(lines: string): void;
  /** Milliseconds; 0 where the watchdog is off, or meant for another process (WATCHDOG_PID). */
  watchdogInterval(): number;
  watchdog(): void;
};

/**
 * Loads the addon only where systemd waits for notifications.
 * @throws OperatorError 69 where it cannot: with Type=notify, systemd kills a service that does not notify
 */
export function notifier(settings: NotifierSettings): Notifier {
  if (settings.notifySocket === undefined) return silent;
  const addon = loadAddon(settings.addonPath ?? defaultAddonPath());
  return {
    ready: () => addon.ready(process.pid),
    reloading: () => addon.sendState("RELOADING=1"),
    stopping: () => addon.stopping(process.pid),
    status: (text) => addon.sendState(`STATUS=${statusText(text)}`),
    watchdogIntervalMs: addon.watchdogInterval(),
    watchdog: () => addon.watchdog(),
  };
}

/** systemd drops a message of more than 4096 bytes (PIPE_BUF). */
const statusBytes = 3_000;

/**
 * One line: a second one would be another assignment, such as MAINPID=, and an engine's error or a
 * container's name may contain a line break.
 */
function statusText(text: string): string {
  const line = printable(text.replace(/\s+/gu, " "));
  if (Buffer.byteLength(line) <= statusBytes) return line;
  // Drop a character that the cut split: systemd accepts UTF-8 only.
  return `${Buffer.from(line)
    .subarray(0, statusBytes)
    .toString("utf8")
    .replace(/\uFFFD$/, "")}…`;
}

const nothing = () => {};

const silent: Notifier = {
  ready: nothing,
  reloading: nothing,
  stopping: nothing,
  status: nothing,
  watchdogIntervalMs: 0,
  watchdog: nothing,
};

/**
 * Packaged beside the executable, not inside: unpacking it at run time needs a directory that is not mounted
 * noexec.
 */
function defaultAddonPath(): string {
  return isSea()
    ? "/usr/lib/ec2metaproxy/notify.node"
    : join(import.meta.dirname, "../../node_modules/sd-notify/build/Release/notify.node");
}

function loadAddon(path: string): Addon {
  const module: { exports: Partial<Addon> } = { exports: {} };
  try {
    process.dlopen(module, path);
  } catch (cause) {
    throw new OperatorError(`opening ${path}, which notifies systemd`, {
      exitCode: exitCodes.unavailable,
      hint: isSea()
        ? "Reinstall the package ec2metaproxy."
        : "Build it with scripts/setup (it needs g++, python3 and libsystemd-dev), or start without NOTIFY_SOCKET.",
      cause,
    });
  }
  return module.exports as Addon; // the one file at that path has these functions; the unit tests call each
}
