import { stat, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Environment } from "../config/load.ts";
import type { Config } from "../config/schema.ts";
import { Directory } from "../containers/directory.ts";
import type { EngineState } from "../engine/connection.ts";
import { type ExitCode, exitCodes, explain, OperatorError, problemLine } from "../errors.ts";
import { follow, run } from "../firewall/command.ts";
import { EngineBridges, engineBridgesFile } from "../firewall/engine-bridges.ts";
import { aliveSeconds } from "../firewall/lock-table.ts";
import { PortLock } from "../firewall/port-lock.ts";
import type { FollowedEngine } from "../guard/protocol.ts";
import { containersSocketName, Publisher } from "../guard/publisher.ts";
import type { Log } from "../log.ts";
import { openLog } from "../observability/journal.ts";
import { singleFlight } from "../single-flight.ts";
import { notifier } from "../systemd/notify.ts";
import { version } from "../version.ts";
import { hostClocks } from "./clocks.ts";
import { type Configuration, configuration } from "./configuration.ts";
import { engineHosts, followEngines } from "./engines.ts";
import { bothOf } from "./environment.ts";
import { configuredPorts, defaultSettingsDirectory } from "./firewall.ts";
import { planFirewall } from "./firewall-plan.ts";
import { coverBridges } from "./guard-bridges.ts";
import { GuardedContainers } from "./guard-containers.ts";
import { Repair } from "./guard-repair.ts";
import { startLock } from "./guard-start.ts";
import { watchHost } from "./guard-watch.ts";
import type { Host } from "./serve.ts";
import { listenForSignals } from "./signals.ts";

export type GuardOptions = {
  readonly configPath: string | undefined;
  /** Contains firewall.conf and firewall.d. */
  readonly settingsDirectory: string | undefined;
};

/** The file in the runtime directory that ec2metaproxy-firewall-repair.path watches. */
const repairTriggerName = "repair";
/** Where firewall-repair keeps the rules that it has found in place. */
const confirmedRules = "/run/ec2metaproxy-firewall/rules-last-found-good";
/** In the state directory; the packages' is that of engineBridgesFile. */
const bridgesFileName = basename(engineBridgesFile);
/** READY should come after the first lists and locks, but neither an engine nor nft may delay it longer. */
const firstListMs = 5_000;
const firstLockMs = 5_000;
/** Three attempts before the lock lapses. */
const refreshMs = (aliveSeconds * 1_000) / 3;
/** A proxy that requests the state gets that of a comparison that is at most this old. */
const comparedMs = 500;
const statusEveryMs = 5_000;
/** Characters of an error that the proxy shows in one line. */
const maxTrouble = 500;

/**
 * Runs the guard until a signal stops it: follows the engines, keeps the port lock, repairs the base rules,
 * and publishes the containers to the proxy. At its end, everything that it has put in force stays.
 */
export async function guard(
  options: GuardOptions,
  usableEnvironment: Promise<Environment>,
  host: Host,
): Promise<ExitCode> {
  const clocks = hostClocks();
  const { now } = clocks;
  const settingsDirectory = options.settingsDirectory ?? defaultSettingsDirectory;
  const file = configuration(options.configPath);
  const [config, environment] = await bothOf(file.read(), usableEnvironment);
  const { runtimeDirectory } = environment;
  if (runtimeDirectory === undefined) {
    throw new OperatorError(
      "RUNTIME_DIRECTORY is not set; the guard publishes on a socket in that directory",
      {
        hint: "Start it with systemctl start ec2metaproxy-guard, or set RUNTIME_DIRECTORY to an existing directory.",
        exitCode: exitCodes.configuration,
      },
    );
  }
  const log = openLog({
    level: config.verbose ? "debug" : "info",
    priorities: host.priorities,
    write: host.write,
  });
  // From here on, so that a signal during the start neither kills the process half-way nor gets lost.
  const signals = listenForSignals(host);
  // Closed at the end, last first, also when the start fails.
  await using open = new AsyncDisposableStack();
  const unit = notifier({ notifySocket: environment.notifySocket });
  const schedule = (delayMs: number, act: () => void) => {
    const timer = setTimeout(act, delayMs);
    return () => clearTimeout(timer);
  };
  const sleep = async (ms: number, signal?: AbortSignal) =>
    delay(ms, undefined, signal === undefined ? {} : { signal }).catch(() => {
      // Aborted: stop waiting.
    });
  const every = (ms: number, act: () => void) => {
    const timer = setInterval(act, ms);
    open.defer(() => clearInterval(timer));
  };

  const directory = new Directory();
  const noteTrouble = lockTroubles(log);
  let lockTrouble = "";
  const lock = new PortLock({
    run,
    procRoot: "/proc",
    namespacesFolder: "/run/netns",
    onChange: (ids) => containers.onProtection(ids),
    onTrouble: (error) => {
      noteTrouble(error);
      if (lockTrouble === (error ?? "")) return;
      lockTrouble = error ?? "";
      publisher.host();
    },
    schedule,
    random: Math.random,
    now,
  });
  open.defer(() => lock.close());
  const publisher = new Publisher({
    version,
    engines: () => engines.states().map(followedEngine),
    host: () => ({ firewall: repair.firewall(), lockTrouble: lockTrouble.slice(0, maxTrouble) }),
    containers: () => containers.published(),
    refresh: () => compare(),
    onOversized: ({ id, name }) =>
      log.error(
        { code: "labels-too-large", container: id.slice(0, 12), name },
        "a container's labels are too large to be published; it is treated as unknown",
      ),
    onSocketLost: socketLosses(log),
  });
  const containers = new GuardedContainers({
    directory,
    hosts: engineHosts(config, environment),
    lock,
    publisher,
    log,
  });
  const bridgesPath =
    environment.stateDirectory === undefined ? undefined : join(environment.stateDirectory, bridgesFileName);
  const { bridges, error: bridgesError } = await EngineBridges.open(
    bridgesPath,
    engineHosts(config, environment),
  );
  if (bridgesError !== undefined)
    log.warn(
      { code: "bridges-unreadable", path: bridgesPath, error: bridgesError },
      "the names of bridges cannot be used; the engines are asked",
    );
  const engines = followEngines(config, environment, {
    ...clocks,
    directory,
    log,
    random: Math.random,
    firstListMs,
    onChange: (change, owner) => containers.onChange(change, owner),
    onBridges: (names, name) => void coverBridges({ bridges, repair, log }, name, names),
    onState: () => publisher.engines(),
  });
  open.defer(() => engines.stop());
  open.defer(() => publisher.close());
  let comparedAt = Number.NEGATIVE_INFINITY;
  const compare = singleFlight(async () => {
    if (now() - comparedAt < comparedMs) return;
    await engines.refresh();
    comparedAt = now();
  });

  const repair = new Repair({
    run,
    plan: async () =>
      planFirewall(settingsDirectory, undefined, await configuredPorts(file, log), bridges.names(), run),
    trigger: () => touch(join(runtimeDirectory, repairTriggerName)),
    // Whoever allows a container to speak as the host must also allow it to speak as others.
    onSettings: ({ layer2 }) => lock.switchOff(layer2 === "off" ? "LAYER2=off" : undefined),
    onState: () => publisher.host(),
    confirmedMs: async () => {
      const found = await stat(confirmedRules).catch(() => undefined);
      return found && clocks.wallNow() - found.mtimeMs;
    },
    wallNow: clocks.wallNow,
    log,
    now,
    sleep,
    schedule,
  });
  open.defer(() => repair.close());
  // Before the lock is made, which depends on the settings.
  repair.request();
  for (const monitor of watchHost({ follow, run, sleep, repair, lock, log, now }))
    open.defer(() => monitor.close());

  await Promise.all([engines.listed, atMost(firstLockMs, repair.checked)]);
  const closing = new AbortController();
  open.defer(() => closing.abort());
  const { complete } = engines;
  const started = startLock({ lock, complete, run, log, sleep, signal: closing.signal });
  await atMost(
    firstLockMs,
    started.then(() => lock.settled()),
  );
  const socketPath = join(runtimeDirectory, containersSocketName);
  await publisher.listen(socketPath).catch((cause: unknown) => {
    throw new OperatorError(`listening on ${socketPath}`, {
      hint: `Let this user write to ${runtimeDirectory}.`,
      exitCode: exitCodes.unavailable,
      cause,
    });
  });

  const status = () => {
    const { containers: count, locked } = containers.counts();
    const states = engines.states();
    const connected = states.filter((engine) => engine.connected).length;
    return `${count} containers, ${locked} locked; ${connected} of ${states.length} engines connected; ${repair.state()}`;
  };
  let shown = "";
  const showStatus = () => {
    if (status() === shown) return;
    shown = status();
    unit.status(shown);
  };
  unit.ready();
  showStatus();
  log.info({ version, socket: socketPath, config: file.path }, `ready: ${status()}`);

  signals.onReload(async () => {
    unit.reloading();
    await reload(file, config, log);
    // The ports of config.json and the firewall's settings are read for each check.
    repair.request();
    unit.ready();
    showStatus();
  });

  every(statusEveryMs, showStatus);
  every(refreshMs, () => void lock.refresh());
  // From the event loop, so that a loop that hangs does not ping.
  if (unit.watchdogIntervalMs !== 0) every(unit.watchdogIntervalMs / 2, () => unit.watchdog());

  await signals.stop;
  unit.stopping();
  log.info({}, `stopping: the rules in force stay, and the port lock for ${aliveSeconds} s`);
  return exitCodes.ok;
}

/** Resolves with the work, or after `ms`. */
async function atMost(ms: number, work: Promise<void>): Promise<void> {
  await Promise.race([work, delay(ms, undefined, { ref: false })]);
}

/** Logs each new error once, and the end of the errors. */
function lockTroubles(log: Log): (error: string | undefined) => void {
  let last: string | undefined;
  return (error) => {
    if (error === last) return;
    last = error;
    if (error === undefined) log.info({}, "the port lock is in force again");
    else
      log.error(
        { code: "lock-incomplete", error },
        "the port lock is not complete; containers that are not locked are not protected from their neighbours",
      );
  };
}

/** Logs each new error once, not with every attempt. */
function socketLosses(log: Log): (reason: string | undefined) => void {
  let last: string | undefined;
  return (reason) => {
    if (reason === undefined)
      log.warn({ code: "guard-socket-removed" }, "somebody removed the guard's socket; it was made again");
    else if (reason !== last)
      log.error(
        { code: "guard-socket-missing", error: reason },
        "somebody removed the guard's socket, and it cannot be made again",
      );
    last = reason;
  };
}

/** As the proxy gets it, which counts the containers itself. */
function followedEngine({
  host,
  connected,
  since,
  lastError,
  apiVersion,
  engine,
}: EngineState): FollowedEngine {
  return {
    host,
    connected,
    since,
    ...(lastError !== undefined && { lastError }),
    ...(apiVersion !== undefined && { apiVersion }),
    ...(engine !== undefined && { engine }),
  };
}

/** Reads the file again. An invalid one changes nothing. */
async function reload(file: Configuration, before: Config, log: Log): Promise<void> {
  try {
    const next = await file.read();
    for (const key of ["dockerHost", "dockerHosts", "dockerTls", "verbose"] as const) {
      if (JSON.stringify(next[key]) !== JSON.stringify(before[key]))
        log.warn(
          { code: "restart-needed", key },
          "this key has changed since the start; it takes effect at the next restart",
        );
    }
    log.info({ config: file.path }, "configuration reloaded");
  } catch (error) {
    log.error(
      { code: "reload-refused", config: file.path },
      `reload refused, the previous configuration stays in force: ${explain(error)}`,
    );
    const problems = error instanceof OperatorError ? error.problems : [];
    for (const problem of problems) log.error({ code: "configuration-problem" }, problemLine(problem));
  }
}

/** systemd's PathChanged= notices a file that was closed after writing. */
async function touch(path: string): Promise<void> {
  await writeFile(path, "");
}
