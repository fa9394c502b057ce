import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { Overrides } from "../cli.ts";
import type { Environment } from "../config/load.ts";
import { needsRestart } from "../config/restart-keys.ts";
import type { Config } from "../config/schema.ts";
import { Provenance } from "../containers/provenance.ts";
import type { Clocks } from "../credentials/clock.ts";
import { type ExitCode, exitCodes, explain, OperatorError, problemLine } from "../errors.ts";
import { readOrCreateKey } from "../imds/session-token.ts";
import type { Log } from "../log.ts";
import { openAccessLog } from "../observability/access.ts";
import { adminSocketName, openAdmin } from "../observability/admin.ts";
import { openAudit } from "../observability/audit.ts";
import { HealthLog } from "../observability/health-log.ts";
import { openLog } from "../observability/journal.ts";
import { singleFlight } from "../single-flight.ts";
import { inheritedSockets } from "../systemd/listen-fds.ts";
import { notifier } from "../systemd/notify.ts";
import { version } from "../version.ts";
import { hostClocks } from "./clocks.ts";
import { configuration } from "./configuration.ts";
import { connectionLimits, openFilesLimit } from "./descriptors.ts";
import { bothOf } from "./environment.ts";
import { explainAnswer } from "./explain-live.ts";
import { listen } from "./listen.ts";
import { openProxy, type ProxySurroundings } from "./proxy.ts";
import { metricsOf } from "./serve-metrics.ts";
import { statusOf } from "./serve-status.ts";
import { listenForSignals, type SignalSource } from "./signals.ts";

export type ServeOptions = {
  readonly configPath: string | undefined;
  readonly overrides: Overrides;
  /** Path of the guard's socket. With it, no engine is contacted. */
  readonly guard?: string;
};

/**
 * The parts of the process that the proxy uses. Passed in by main, so that nothing below it touches the
 * process.
 */
export type Host = SignalSource & {
  readonly pid: number;
  /** Takes the log, a line at a time. */
  readonly write: (line: string) => void;
  /** Whether the log goes to the journal, which reads priorities. */
  readonly priorities: boolean;
};

const tokenKeyName = "token-key";
/** Longer than an unknown caller is held, so that every request in progress is answered before we close. */
const drainMs = 3_000;
const statusEveryMs = 5_000;
const probeEveryMs = 10_000;
/**
 * READY should come after the engines' first lists, but an engine that hangs must not delay it for longer.
 */
const firstListMs = 5_000;

/** These are the guard's, where there is one. */
const engineKeys: readonly string[] = ["dockerHost", "dockerHosts", "dockerTls"] satisfies (keyof Config)[];

/** Loads the engine's client only where the engines are followed: the guard spares the proxy its memory. */
async function follower(
  config: Config,
  { guard }: ServeOptions,
  environment: Environment,
  surroundings: Clocks & { readonly log: Log },
): Promise<ProxySurroundings["follow"]> {
  if (guard !== undefined) {
    const { followGuard } = await import("./follow-guard.ts");
    return (directory, onChange) => followGuard(guard, { ...surroundings, directory, onChange });
  }
  const { followEngines } = await import("./engines.ts");
  return (directory, onChange) =>
    followEngines(config, environment, {
      ...surroundings,
      directory,
      random: Math.random,
      firstListMs,
      onChange,
    });
}

/**
 * Runs the proxy until a signal stops it: start, READY, reload, watchdog, stop. `openProxy` does the wiring.
 */
export async function serve(
  options: ServeOptions,
  usableEnvironment: Promise<Environment>,
  host: Host,
): Promise<ExitCode> {
  const clocks = hostClocks();
  const { now } = clocks;
  const startedAt = now();
  const { guard } = options;
  const use = guard === undefined ? "serve without a guard" : "any";
  const file = configuration(options.configPath, options.overrides, use);
  const [config, environment] = await bothOf(file.read(), usableEnvironment);
  const log = openLog({
    level: config.verbose ? "debug" : "info",
    priorities: host.priorities,
    write: host.write,
  });
  for (const { where, message, hint } of environment.ignored)
    log.warn({ code: "variable-ignored", variable: where, cure: hint }, `the variable ${message}`);
  // From here on, so that a signal during the start neither kills the process half-way nor gets lost.
  const signals = listenForSignals(host);
  // Closed at the end, last first, also when the start fails: otherwise open handles would keep the process
  // alive.
  await using open = new AsyncDisposableStack();

  const { runtimeDirectory } = environment;
  const audit = openAudit(log, now);
  const proxy = openProxy(
    config,
    {
      environment,
      clocks,
      random: Math.random,
      stopwatch: () => performance.now(),
      log,
      follow: await follower(config, options, environment, { ...clocks, log }),
      provenance: new Provenance(),
      tokenKey:
        runtimeDirectory === undefined
          ? randomBytes(32)
          : await readOrCreateKey(join(runtimeDirectory, tokenKeyName)),
      admissionLimits: connectionLimits(config.limits.connections, await openFilesLimit()),
      audit: { granted: audit.granted, refused: audit.refused },
      ...(config.verbose && { access: openAccessLog(log, startedAt.toString(36)) }),
      drainMs,
    },
    open,
  );
  // systemd's library takes milliseconds to load; the engines are answering meanwhile.
  const unit = notifier({ notifySocket: environment.notifySocket });

  const listening = await listen(proxy.imds.server, config.listen, inheritedSockets(environment, host.pid));
  if (proxy.containerCredentials !== undefined && config.containerCredentials !== undefined)
    await listen(proxy.containerCredentials.server, config.containerCredentials.listen, []);

  let configProblem: string | undefined;
  const status = () =>
    statusOf({
      uptimeSeconds: Math.round((now() - startedAt) / 1000),
      listening,
      configPath: file.path,
      configProblem,
      requests: audit.counts(),
      stranger: audit.stranger(),
      ...proxy.facts(),
    });
  const explainSources = () => {
    const facts = proxy.facts();
    return { ...facts, locks: facts.guard?.locks };
  };
  if (config.metricsListen !== undefined) {
    // prom-client is loaded only where somebody scrapes.
    const { metricsServer } = await import("../observability/metrics.ts");
    const metrics = metricsServer(metricsOf(status, audit.refusals, proxy.durations), () => status().health);
    open.defer(() => void metrics.close());
    await listen(metrics, config.metricsListen, []);
  }
  if (runtimeDirectory === undefined) {
    log.info(
      {},
      "RUNTIME_DIRECTORY is not set: session tokens become invalid when this process ends, and `ec2metaproxy status` cannot reach it",
    );
  } else {
    const admin = await openAdmin(join(runtimeDirectory, adminSocketName), status, (container) =>
      explainAnswer(container, { configPath: file.path, ...explainSources() }),
    );
    open.defer(() => void admin.close());
  }

  await proxy.listed;
  unit.ready();
  unit.status(status().summary);
  log.info({ version, listening, config: file.path }, `ready: ${status().summary}`);
  void proxy.warmUp();

  signals.onReload(async () => {
    unit.reloading();
    try {
      const next = await file.read();
      for (const key of needsRestart(config, next))
        log.warn(
          { code: "restart-needed", key },
          guard !== undefined && engineKeys.includes(key)
            ? "this key has changed since the start; it takes effect when ec2metaproxy-guard is restarted"
            : "this key has changed since the start; it takes effect at the next restart",
        );
      proxy.replaceConfig(next);
      configProblem = undefined;
      log.info({ config: file.path }, "configuration reloaded");
    } catch (error) {
      const problems = error instanceof OperatorError ? error.problems : [];
      configProblem = [explain(error), ...problems.map(problemLine)].join(". ");
      log.error(
        { code: "reload-refused", config: file.path },
        `reload refused, the previous configuration stays in force: ${explain(error)}`,
      );
      for (const problem of problems) log.error({ code: "configuration-problem" }, problemLine(problem));
    }
    unit.ready();
    unit.status(status().summary);
  });

  const probe = singleFlight(() => proxy.probe());
  const probeTimer = setInterval(() => void probe(), probeEveryMs);
  open.defer(() => clearInterval(probeTimer));
  const healthLog = new HealthLog(log);
  const statusTimer = setInterval(() => {
    const now = status();
    unit.status(now.summary);
    healthLog.note(
      now.health,
      now.containers.filter(({ state }) => state === "failing"),
    );
  }, statusEveryMs);
  open.defer(() => clearInterval(statusTimer));
  // From the event loop, so that a loop that hangs does not ping; and only while the server accepts
  // connections.
  const ping = () => proxy.imds.server.listening && unit.watchdog();
  const watchdog = unit.watchdogIntervalMs === 0 ? undefined : setInterval(ping, unit.watchdogIntervalMs / 2);
  open.defer(() => clearInterval(watchdog));

  await signals.stop;
  unit.stopping();
  log.info(
    { connections: proxy.imds.connections() },
    "stopping: requests in progress are answered, new connections wait for the next process",
  );
  return exitCodes.ok;
}
