import type { IncomingMessage, ServerResponse } from "node:http";
import type { Environment } from "../config/load.ts";
import type { Config } from "../config/schema.ts";
import { Directory } from "../containers/directory.ts";
import { assumeRoleErrorIn } from "../credentials/assume-role.ts";
import { CredentialCache } from "../credentials/cache.ts";
import type { Clocks } from "../credentials/clock.ts";
import { causeText } from "../credentials/diagnosis.ts";
import { openSts } from "../credentials/sts.ts";
import type { Change } from "../engine/connection.ts";
import { explain } from "../errors.ts";
import { type AdmissionLimits, openAdmission } from "../imds/admission.ts";
import { Callers } from "../imds/callers.ts";
import { containerCredentialsHandler, containerRefusalAnswer } from "../imds/container-credentials.ts";
import { type ImdsDependencies, imdsHandler } from "../imds/handler.ts";
import { passthroughPolicy } from "../imds/policy.ts";
import { refusalAnswer } from "../imds/refusals.ts";
import { type ImdsServer, imdsServer } from "../imds/server.ts";
import { sessionTokens } from "../imds/session-token.ts";
import { Upstream } from "../imds/upstream.ts";
import type { Log } from "../log.ts";
import { MetadataClient } from "../metadata/client.ts";
import { rolePolicy } from "../roles/grant.ts";
import type { Engines } from "./engines.ts";
import { whyIncomplete } from "./incomplete.ts";
import { Prefetching } from "./prefetching.ts";
import { ProxyDurations } from "./proxy-durations.ts";
import type { StatusFacts } from "./serve-status.ts";
import { staticsOf } from "./statics.ts";
import { stsSettings } from "./sts-settings.ts";

/** The host's first call to STS also loads the SDK. */
const callerMs = 10_000;
/** For one request of a probe. */
const probeMs = 5_000;
/** The metadata service is asked where nobody has asked it for this long. */
const quietMsLimit = 60_000;

/** What the proxy needs beside its configuration. Tests pass their own clocks, engines and socket proof. */
export type ProxySurroundings = {
  readonly environment: Environment;
  readonly clocks: Clocks;
  readonly random: () => number;
  /** Milliseconds with fractions, monotonic, from any origin. */
  readonly stopwatch: () => number;
  readonly log: Log;
  /** Keeps the directory true to the engines, itself or through the guard, and reports each change. */
  readonly follow: (directory: Directory, onChange: (change: Change) => void) => Engines;
  readonly provenance: ImdsDependencies["provenance"];
  /** 32 bytes. Session tokens stay valid across restarts that keep the key. */
  readonly tokenKey: Buffer;
  readonly admissionLimits: AdmissionLimits;
  readonly audit: Pick<ImdsDependencies, "granted" | "refused">;
  /** Undefined unless the configuration is `verbose`. */
  readonly access?: ImdsDependencies["access"] | undefined;
  /** How long requests in progress may take when the proxy is closed. */
  readonly drainMs: number;
};

export type Proxy = {
  /** Undefined where the configuration serves no metrics. */
  readonly durations: ProxyDurations | undefined;
  /** Answers on the metadata address. Not listening yet. */
  readonly imds: ImdsServer;
  /** Answers the container credentials endpoint, where the configuration has one. Not listening yet. */
  readonly containerCredentials: ImdsServer | undefined;
  readonly directory: Directory;
  readonly callers: Callers;
  readonly credentials: CredentialCache;
  /** Settles once the engines' first lists are in, or have taken too long. */
  readonly listed: Promise<void>;
  /** What `status` reports about the parts below. */
  facts(): Pick<
    StatusFacts,
    | "engines"
    | "guard"
    | "identityProof"
    | "credentials"
    | "containers"
    | "callers"
    | "roles"
    | "directory"
    | "credentialsOf"
    | "metadata"
    | "needsMetadata"
    | "hostProblem"
    | "now"
  >;
  /**
   * Asks the metadata service and STS where nobody else has for a while, so that the status is about now.
   * Never rejects.
   */
  probe(): Promise<void>;
  /** Learns who the host is, and begins to fetch credentials ahead. Never rejects: failures are logged. */
  warmUp(): Promise<void>;
  /** Puts another configuration in force, except for the keys that need a restart. */
  replaceConfig(config: Config): void;
};

/**
 * Wires the proxy: who a caller is, what it gets, and the servers that answer.
 * @param open gets what must be closed again, also where this throws half-way; disposed last first
 */
export function openProxy(
  initial: Config,
  surroundings: ProxySurroundings,
  open: AsyncDisposableStack,
): Proxy {
  const { environment, clocks, random, stopwatch, log, drainMs } = surroundings;
  const { now } = clocks;
  let config = initial;
  const durations = config.metricsListen === undefined ? undefined : new ProxyDurations();

  // Who: the engines' containers and the declared ones.
  const directory = new Directory({ statics: staticsOf(config) });
  const callers = new Callers(rolePolicy(config), undefined);

  // What: credentials from STS, everything else from the real metadata service.
  const metadata = new MetadataClient({ endpoint: config.metadataEndpoint, now });
  open.defer(() => metadata.close());
  const stsOptions = stsSettings(config, environment, log, clocks, metadata);
  const sts = openSts(stsOptions);
  open.defer(() => sts.close());
  const credentials = new CredentialCache({
    assumeRole: sts.assumeRole,
    ...clocks,
    random,
    schedule: (delayMs, run) => {
      const timer = setTimeout(run, delayMs);
      return () => clearTimeout(timer);
    },
    log,
    called: durations && ((durationMs, outcome) => durations.noteCall(outcome, durationMs)),
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

  const prefetching = new Prefetching({ callers, credentials, enabled: () => config.prefetch });
  const engines = surroundings.follow(directory, (change) => {
    prefetching.onChange(change);
    if (change.kind === "gone") callers.forget(change.container.id);
  });
  open.defer(() => engines.stop());

  // The answers.
  let settings = settingsOf(config);
  const dependencies: ImdsDependencies = {
    settings: () => settings,
    directory,
    listed: engines.listed,
    incomplete: () => whyIncomplete(engines),
    refresh: engines.refresh,
    provenance: surroundings.provenance,
    locks: engines.guard?.locks,
    callers,
    credentials,
    tokens: sessionTokens({ key: surroundings.tokenKey, now }),
    upstream,
    ...surroundings.audit,
    access: surroundings.access,
    now,
  };
  const handlerOf = (handle: ReturnType<typeof imdsHandler>) =>
    guarded(durations === undefined ? handle : timed(handle, durations, stopwatch), log);
  const admission = openAdmission(dependencies, surroundings.admissionLimits);
  const imds = imdsServer(handlerOf(imdsHandler(dependencies)), admission, ({ code }) => refusalAnswer(code));
  const containerCredentials =
    config.containerCredentials &&
    imdsServer(handlerOf(containerCredentialsHandler(dependencies)), admission, (refusal) =>
      containerRefusalAnswer(refusal, now()),
    );
  open.defer(
    async () => void (await Promise.all([imds.drain(drainMs), containerCredentials?.drain(drainMs)])),
  );

  /** Why this host's own call to STS has failed. */
  let hostProblem: StatusFacts["hostProblem"];
  let loggedProblem = "";
  const askWhoWeAre = async () => {
    try {
      const arn = await sts.callerArn(AbortSignal.timeout(callerMs));
      hostProblem = undefined;
      loggedProblem = "";
      log.info({ arn }, "assuming roles as this host");
    } catch (error) {
      const failed = assumeRoleErrorIn(error);
      const message =
        failed === undefined
          ? explain(error)
          : causeText({ ...failed.diagnosis, code: failed.code, message: failed.message });
      const { cause, cure = "" } = failed?.diagnosis ?? {};
      hostProblem = { message, cause, cure, calls: (hostProblem?.calls ?? 0) + 1 };
      // Messages contain times, so that each would be a new one.
      const problem = failed?.failure ?? message;
      if (problem !== loggedProblem)
        log.warn(
          { code: "sts-unusable", err: error, ...failed?.diagnosis },
          "calling STS as this host failed; roles cannot be assumed",
        );
      loggedProblem = problem;
    }
  };

  return {
    durations,
    imds,
    containerCredentials,
    directory,
    callers,
    credentials,
    listed: engines.listed,
    facts: () => ({
      engines: engines.states(),
      guard: engines.guard,
      identityProof: config.identityProof,
      credentials: credentials.stats(),
      containers: directory.containers(),
      callers,
      directory,
      credentialsOf: (id, key) => credentials.held(id, key),
      metadata: metadata.state(),
      needsMetadata: stsOptions.hostKeys === undefined || stsOptions.region === undefined,
      // Whoever may assume roles is known to STS.
      hostProblem: credentials.stats().calls.ok > 0 ? undefined : hostProblem,
      now: now(),
      roles:
        Object.keys(config.aliasToARN).length +
        Object.keys(config.aliases).length +
        config.allowRoleArns.length,
    }),
    probe: async () => {
      const { failure, quietMs = Number.POSITIVE_INFINITY } = metadata.state();
      if (quietMs >= quietMsLimit || (failure !== undefined && stsOptions.hostKeys === undefined))
        await metadata.read("/latest/meta-data/instance-id", probeMs).catch(() => undefined); // noted there
      if (hostProblem !== undefined) await askWhoWeAre();
    },
    warmUp: async () => {
      // The first call pays for loading the SDK and for the TLS handshake, so make it before a client waits.
      void askWhoWeAre();
      try {
        // Before the first credentials are fetched: session names may hold the instance id.
        const instanceId = (await upstream.text("/latest/meta-data/instance-id"))?.trim();
        // `config` as it is now: it may have been reloaded since.
        callers.replace(rolePolicy(config), instanceId);
      } catch (error) {
        log.warn(
          { code: "metadata-unusable", err: error },
          "the instance metadata service did not name the instance; {instanceId} in templates stays empty",
        );
      }
      prefetching.start(directory.containers());
    },
    replaceConfig: (next) => {
      config = next;
      settings = settingsOf(config);
      callers.replace(rolePolicy(config), callers.instanceId);
      directory.setStatics(staticsOf(config));
      prefetching.decideAgain(directory.containers());
    },
  };
}

/** Notes how long each request took, until its last byte was handed over. */
function timed(
  handle: ReturnType<typeof imdsHandler>,
  durations: ProxyDurations,
  stopwatch: () => number,
): ReturnType<typeof imdsHandler> {
  return async (request, response) => {
    const startedAt = stopwatch();
    await handle(request, response);
    durations.noteRequest(response.statusCode, stopwatch() - startedAt);
  };
}

/**
 * A handler that rejects has a bug. Its client still gets an answer, and the service goes on for the others.
 */
function guarded(
  handle: ReturnType<typeof imdsHandler>,
  log: Log,
): (request: IncomingMessage, response: ServerResponse) => void {
  return (request, response) => {
    handle(request, response).catch((error: unknown) => {
      log.error({ code: "bug", err: error, path: request.url }, "answering a request failed; this is a bug");
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
