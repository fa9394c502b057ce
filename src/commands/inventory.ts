import { setTimeout as sleep } from "node:timers/promises";
import type { Environment } from "../config/load.ts";
import type { Config } from "../config/schema.ts";
import { type Container, staticContainer } from "../containers/container.ts";
import { Directory } from "../containers/directory.ts";
import type { Clocks } from "../credentials/clock.ts";
import { connectEngine } from "../engine/client.ts";
import { type EngineState, followEngine } from "../engine/connection.ts";
import { parseDockerHost } from "../engine/endpoint.ts";
import type { Log } from "../log.ts";

const defaultDockerHost = "unix:///var/run/docker.sock";
/** An engine that accepts and never answers must not keep an operator waiting. */
const listMs = 10_000;

/** The engines that a configuration names, in its order. */
export function engineHosts(config: Config, environment: Pick<Environment, "dockerHost">): readonly string[] {
  return config.dockerHosts ?? [config.dockerHost ?? environment.dockerHost ?? defaultDockerHost];
}

/** The containers that the configuration declares itself. */
export function staticsOf(config: Config): readonly Container[] {
  return Object.entries(config.staticContainers).map(([address, { name, alias }]) =>
    staticContainer(address, { name, ...(alias !== undefined && { alias }) }),
  );
}

/** The networks of every engine whose containers' packets do not pass this host, so that no rule of ours can redirect or refuse them. */
export async function linkNetworks(
  config: Config,
  environment: Pick<Environment, "dockerHost">,
): Promise<readonly string[]> {
  const tls = config.dockerTls ?? {};
  const found = engineHosts(config, environment).map(async (host) => {
    const endpoint = parseDockerHost(host, Object.values(tls).length > 0);
    const engine = await connectEngine({ endpoint, tls, callTimeoutMs: listMs });
    try {
      return await engine.linkNetworks();
    } finally {
      engine.close();
    }
  });
  // An engine that does not answer has a finding of its own.
  return (await Promise.allSettled(found)).flatMap((one) => (one.status === "fulfilled" ? one.value : []));
}

/** What runs now, asked once: for the commands that look and leave. */
export async function takeInventory(
  config: Config,
  environment: Pick<Environment, "dockerHost">,
  log: Log,
  clocks: Clocks,
): Promise<{ readonly directory: Directory; readonly engines: readonly EngineState[] }> {
  const directory = new Directory({ statics: staticsOf(config) });
  const watches = engineHosts(config, environment).map((host) =>
    followEngine({
      host,
      ...(config.dockerTls && { tls: config.dockerTls }),
      directory,
      log,
      ...clocks,
      random: Math.random,
    }),
  );
  await Promise.race([
    Promise.all(watches.map(({ settled }) => settled)),
    sleep(listMs, undefined, { ref: false }),
  ]);
  const found = { directory: new Directory({ statics: [] }), engines: watches.map((watch) => watch.state()) };
  // The watches forget what they found when they are stopped; what was found is copied first.
  for (const container of directory.containers()) found.directory.upsert("inventory", container);
  await Promise.all(watches.map((watch) => watch.stop()));
  return found;
}
