import type { Environment } from "../config/load.ts";
import type { Config } from "../config/schema.ts";
import { Directory } from "../containers/directory.ts";
import type { Clocks } from "../credentials/clock.ts";
import { connectEngine } from "../engine/client.ts";
import type { EngineState } from "../engine/connection.ts";
import { parseDockerHost } from "../engine/endpoint.ts";
import type { Log } from "../log.ts";
import { engineHosts, followEngines } from "./engines.ts";
import { staticsOf } from "./statics.ts";

/** An engine that accepts the connection and never answers must not keep an operator waiting. */
const listMs = 10_000;

/**
 * The macvlan and ipvlan networks of every engine. Packets of their containers do not pass through this host,
 * so its firewall can neither redirect nor refuse them.
 */
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

/** The containers that run now, read once, for the commands that report and exit. */
export async function takeInventory(
  config: Config,
  environment: Pick<Environment, "dockerHost">,
  log: Log,
  clocks: Clocks,
): Promise<{ readonly directory: Directory; readonly engines: readonly EngineState[] }> {
  const directory = new Directory({ statics: staticsOf(config) });
  const following = followEngines(config, environment, {
    ...clocks,
    directory,
    log,
    random: Math.random,
    firstListMs: listMs,
  });
  await following.listed;
  const engines = following.states();
  await following.stop();
  // By id: an engine that is named twice, by two spellings of its address, lists each container twice.
  const inventory = new Directory({ statics: [] });
  for (const container of directory.containers()) inventory.upsert("inventory", container);
  return { directory: inventory, engines };
}
