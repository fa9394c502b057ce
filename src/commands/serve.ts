import { randomBytes } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Overrides } from "../cli.ts";
import type { Environment } from "../config/load.ts";
import { needsRestart } from "../config/restart-keys.ts";
import type { Config } from "../config/schema.ts";
import { Directory } from "../containers/directory.ts";
import { Provenance } from "../containers/provenance.ts";
import { CredentialCache } from "../credentials/cache.ts";
import { openSts } from "../credentials/sts.ts";
import { watchEngine } from "../engine/connection.ts";
import { type ExitCode, exitCodes, explain, OperatorError, problemLine } from "../errors.ts";
import { errorAnswers } from "../imds/answers.ts";
import { Callers } from "../imds/callers.ts";
import { containerCredentialsHandler, turnedAwayDocument } from "../imds/container-credentials.ts";
import { openDoor } from "../imds/door.ts";
import { type ImdsDependencies, imdsHandler } from "../imds/handler.ts";
import { passthroughPolicy } from "../imds/policy.ts";
import { imdsServer } from "../imds/server.ts";
import { readOrCreateKey, sessionTokens } from "../imds/session-token.ts";
import { Upstream } from "../imds/upstream.ts";
import type { Log } from "../log.ts";
import { MetadataClient } from "../metadata/client.ts";
import { adminSocketName, openAdmin } from "../observability/admin.ts";
import { openAudit } from "../observability/audit.ts";
import { openLog } from "../observability/journal.ts";
import { rolePolicy } from "../roles/grant.ts";
import { inheritedSockets } from "../systemd/listen-fds.ts";
import { notifier } from "../systemd/notify.ts";
import { version } from "../version.ts";
import { hostClocks } from "./clocks.ts";
import { configuration } from "./configuration.ts";
import { connectionLimits, openFilesLimit } from "./descriptors.ts";
import { engineHosts, staticsOf } from "./inventory.ts";
import { listen } from "./listen.ts";
import { Prefetching } from "./prefetching.ts";
import { metricsOf } from "./serve-metrics.ts";
import { statusOf } from "./serve-status.ts";
import { listenForSignals, type SignalSource } from "./signals.ts";
import { stsSettings } from "./sts-settings.ts";

export type ServeOptions = { readonly configPath: string | undefined; readonly overrides: Overrides };

/** What of the process the proxy needs: handed in by main, so that nothing else touches it. */
export type Host = SignalSource & {
  readonly pid: number;
  readonly write: (line: string) => void;
};

const tokenKeyName = "token-key";
/** Requests in progress end within the wait of an unknown caller; after that we close. */
const drainMs = 3_000;
const statusEveryMs = 5_000;
/** The first list of containers should be there when we say READY; an engine that hangs must not keep us from saying it. */
const firstListMs = 5_000;

/** Runs the proxy until it is told to stop. The composition root: everything is wired here, and nowhere else. */
export async function serve(options: ServeOptions, environment: Environment, host: Host): Promise<ExitCode> {
  const clocks = hostClocks();
  const { now } = clocks;
  const file = configuration(options.configPath, options.overrides);
  const started = await file.read();
  let config = started;
  const log = openLog({
    level: config.verbose ? "debug" : "info",
    priorities: environment.journalStream !== undefined,
    write: host.write,
  });
  const startedAt = now();
  // Signals count from here on: one that comes while we start must not end the process half-way, or be lost.
  const signals = listenForSignals(host);
  // What is open is closed in the end, last first, also where starting fails half-way: else the process would stay, serving nobody.
  await using open = new AsyncDisposableStack();

  // Who: the engines' containers and the declared ones.
  const directory = new Directory({ statics: staticsOf(config) });
  const provenance = new Provenance();
  const callers = new Callers(rolePolicy(config), undefined);

  // What: credentials from STS, everything else from the real metadata service.
  const metadata = new MetadataClient({ endpoint: config.metadataEndpoint, now });
  open.defer(() => metadata.close());
  const sts = openSts(stsSettings(config, environment, log, clocks, metadata));
  open.defer(() => sts.close());
  const credentials = new CredentialCache({
    assumeRole: sts.assumeRole,
    ...clocks,
    random: Math.random,
    schedule: (delayMs, run) => {
      const timer = setTimeout(run, delayMs);
      return () => clearTimeout(timer);
    },
    log,
    limits: {
      callsInFlight: config.sts.callsInFlight,
      callsPerSecond: config.sts.callsPerSecond,
      startSpreadMs: config.sts.startSpreadSeconds * 1000,
    },
  });
  open.defer(() => credentials.close());
  const upstream = new Upstream({
    metadata,
    cacheSeconds: config.passthrough.cacheSeconds,
    requestsPerSecond: config.passthrough.requestsPerSecond,
    now,
  });
  open.defer(() => upstream.close());
  const key =
    environment.runtimeDirectory === undefined
      ? randomBytes(32)
      : await readOrCreateKey(join(environment.runtimeDirectory, tokenKeyName));

  const prefetching = new Prefetching({ callers, credentials, enabled: () => config.prefetch });
  const engines = engineHosts(config, environment).map((engineHost) =>
    watchEngine({
      host: engineHost,
      ...(config.dockerTls && { tls: config.dockerTls }),
      directory,
      log,
      ...clocks,
      random: Math.random,
      onChange: prefetching.onChange,
    }),
  );
  open.defer(async () => void (await Promise.all(engines.map((engine) => engine.stop()))));
  const listed = Promise.race([
    Promise.all(engines.map((engine) => engine.settled)).then(() => undefined),
    sleep(firstListMs, undefined, { ref: false }),
  ]);
  // While the engines think about their answers: systemd's library takes milliseconds to load.
  const unit = notifier({ notifySocket: environment.notifySocket });

  // The answers.
  let settings = settingsOf(config);
  const audit = openAudit(log, now);
  const the: ImdsDependencies = {
    settings: () => settings,
    directory,
    listed,
    complete: () => engines.every((engine) => engine.state().connected),
    refresh: async () => void (await Promise.all(engines.map((engine) => engine.refresh()))),
    provenance,
    callers,
    credentials,
    tokens: sessionTokens({ key, now }),
    upstream,
    granted: audit.granted,
    refused: audit.refused,
    now,
  };
  const door = openDoor(the, connectionLimits(config.limits.connections, await openFilesLimit()));
  const imds = imdsServer(guarded(imdsHandler(the), log), door, ({ status }) => errorAnswers[status]);
  const ecs =
    config.containerCredentials &&
    imdsServer(guarded(containerCredentialsHandler(the), log), door, (refused) =>
      turnedAwayDocument(refused, now()),
    );
  open.defer(async () => void (await Promise.all([imds.drain(drainMs), ecs?.drain(drainMs)])));

  let configProblem: string | undefined;
  const status = () =>
    statusOf({
      uptimeSeconds: Math.round((now() - startedAt) / 1000),
      listening,
      configPath: file.path,
      configProblem,
      engines: engines.map((engine) => engine.state()),
      credentials: credentials.stats(),
      requests: audit.counts(),
      containers: directory.containers(),
      callers,
      roles:
        Object.keys(config.aliasToARN).length +
        Object.keys(config.aliases).length +
        config.allowRoleArns.length,
    });

  const listening = await listen(imds.server, config.listen, inheritedSockets(environment, host.pid));
  if (ecs !== undefined && config.containerCredentials !== undefined)
    await listen(ecs.server, config.containerCredentials.listen, []);
  const metrics =
    config.metricsListen === undefined
      ? undefined
      : (await import("../observability/metrics.ts")).metricsServer(metricsOf(status, audit.refusals));
  if (metrics !== undefined && config.metricsListen !== undefined)
    await listen(metrics, config.metricsListen, []);
  open.defer(() => void metrics?.close());
  const admin =
    environment.runtimeDirectory === undefined
      ? undefined
      : await openAdmin(join(environment.runtimeDirectory, adminSocketName), status);
  open.defer(() => void admin?.close());
  if (environment.runtimeDirectory === undefined) {
    log.info(
      {},
      "RUNTIME_DIRECTORY is not set: session tokens end with this process, and `ec2metaproxy status` cannot ask it",
    );
  }
  await listed;
  unit.ready();
  unit.status(status().summary);
  log.info({ version, listening, config: file.path }, `ready: ${status().summary}`);

  // The first call pays for the SDK's loading and for TLS; better nobody waits for it.
  sts.callerArn(AbortSignal.timeout(10_000)).then(
    (arn) => log.info({ arn }, "assuming roles as this host"),
    (error: unknown) =>
      log.warn({ err: error }, "STS does not know this host yet; containers' roles cannot be assumed"),
  );
  const startPrefetching = async () => {
    try {
      // First, since a template may have it in the name of each session.
      const instanceId = await learnInstanceId(upstream);
      // Of the configuration as it is now: it may have been reloaded meanwhile.
      callers.replace(rolePolicy(config), instanceId);
    } catch (error) {
      log.warn(
        { err: error },
        "the instance metadata service does not answer; {instanceId} in templates stays empty",
      );
    }
    prefetching.start(directory.containers());
  };
  void startPrefetching();

  const reload = async () => {
    unit.reloading();
    try {
      const next = await file.read();
      for (const key of needsRestart(started, next))
        log.warn({ key }, "this key has changed since the start; it takes effect at the next restart");
      config = next;
      settings = settingsOf(config);
      callers.replace(rolePolicy(config), callers.instanceId);
      directory.setStatics(staticsOf(config));
      prefetching.decideAgain(directory.containers());
      configProblem = undefined;
      log.info({ config: file.path }, "configuration reloaded");
    } catch (error) {
      const problems = error instanceof OperatorError ? error.problems : [];
      configProblem = explain(error);
      log.error(
        { config: file.path },
        `reload refused, the former configuration stays in force: ${configProblem}`,
      );
      for (const problem of problems) log.error({}, problemLine(problem));
    }
    unit.ready();
    unit.status(status().summary);
  };

  const statusTimer = setInterval(() => unit.status(status().summary), statusEveryMs);
  open.defer(() => clearInterval(statusTimer));
  // The ping comes from the event loop, after a look at what would make us useless; a loop that hangs does not ping.
  const ping = () => imds.server.listening && unit.watchdog();
  const watchdog = unit.watchdogIntervalMs === 0 ? undefined : setInterval(ping, unit.watchdogIntervalMs / 2);
  open.defer(() => clearInterval(watchdog));

  signals.onReload(reload);
  await signals.stop;
  unit.stopping();
  log.info(
    { connections: imds.connections() },
    "stopping: requests in progress are answered, new ones wait for the next process",
  );
  return exitCodes.ok;
}

/** A handler that rejects has a bug; its client gets an answer all the same, and the other clients are served on. */
function guarded(
  handle: ReturnType<typeof imdsHandler>,
  log: Log,
): (request: IncomingMessage, response: ServerResponse) => void {
  return (request, response) => {
    handle(request, response).catch((error: unknown) => {
      log.error({ err: error, path: request.url }, "answering a request failed; this is a bug");
      if (response.headersSent) response.destroy();
      else response.writeHead(500, { "Content-Length": 0, Server: "EC2ws" }).end();
    });
  };
}

function settingsOf(config: Config) {
  return {
    identityProof: config.identityProof,
    passthrough: passthroughPolicy(config.passthrough),
    requestsPerSecond: config.limits.requestsPerSecond,
  };
}

async function learnInstanceId(upstream: Upstream): Promise<string | undefined> {
  return (await upstream.text("/latest/meta-data/instance-id"))?.trim();
}
