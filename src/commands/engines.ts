import { setTimeout as sleep } from "node:timers/promises";
import type { Environment } from "../config/load.ts";
import type { Config } from "../config/schema.ts";
import type { Directory } from "../containers/directory.ts";
import type { Locks } from "../containers/protection.ts";
import type { Clocks } from "../credentials/clock.ts";
import { type Change, type EngineState, followEngine } from "../engine/connection.ts";
import type { GuardState } from "../guard/subscriber.ts";
import type { Log } from "../log.ts";

const defaultDockerHost = "unix:///var/run/docker.sock";

/** The engines that a configuration names, in its order. */
export function engineHosts(config: Config, environment: Pick<Environment, "dockerHost">): readonly string[] {
  return config.dockerHosts ?? [config.dockerHost ?? environment.dockerHost ?? defaultDockerHost];
}

/** The guard, for a proxy that follows it instead of the engines. */
export type FollowedGuard = {
  /** Path of its socket. */
  readonly path: string;
  state(): GuardState;
  readonly locks: Locks;
};

/** All engines of a configuration, as one: followed here, or by the guard. */
export type Engines = {
  /** Undefined for a proxy that follows the engines itself. */
  readonly guard?: FollowedGuard;
  /** Settles once every engine is in the directory or known to be unreachable, or after a few seconds. */
  readonly listed: Promise<void>;
  states(): readonly EngineState[];
  /** Whether every engine is connected, so that the directory has every container. */
  complete(): boolean;
  /** Compares the directory with every engine now. Never rejects. */
  refresh(): Promise<void>;
  stop(): Promise<void>;
};

type FollowOptions = Clocks & {
  readonly directory: Directory;
  readonly log: Log;
  readonly random: () => number;
  /** An engine that accepts the connection and never answers must not hold up the caller for longer. */
  readonly firstListMs: number;
  /** `host` is the engine's, which owns the container in the directory. */
  readonly onChange?: (change: Change, host: string) => void;
  /** The names of bridges that an engine's networks were created with. */
  readonly onBridges?: (names: readonly string[], host: string) => void;
  /** The state of an engine has changed. */
  readonly onState?: () => void;
};

/** Keeps the directory true to every engine that the configuration names. */
export function followEngines(
  config: Config,
  environment: Pick<Environment, "dockerHost">,
  { firstListMs, onChange, onBridges, ...options }: FollowOptions,
): Engines {
  const engines = engineHosts(config, environment).map((host) =>
    followEngine({
      ...options,
      host,
      onChange: (change) => onChange?.(change, host),
      ...(onBridges !== undefined && { onBridges: (names) => onBridges(names, host) }),
      ...(config.dockerTls && { tls: config.dockerTls }),
    }),
  );
  const settled = Promise.all(engines.map((engine) => engine.settled)).then(() => undefined);
  return {
    listed: Promise.race([settled, sleep(firstListMs, undefined, { ref: false })]),
    states: () => engines.map((engine) => engine.state()),
    complete: () => engines.every((engine) => engine.state().connected),
    refresh: async () => void (await Promise.all(engines.map((engine) => engine.refresh()))),
    stop: async () => void (await Promise.all(engines.map((engine) => engine.stop()))),
  };
}
