import type { Environment } from "../config/load.ts";
import type { Config } from "../config/schema.ts";
import type { Clocks } from "../credentials/clock.ts";
import type { StsSettings } from "../credentials/sts.ts";
import type { Log } from "../log.ts";
import type { MetadataClient } from "../metadata/client.ts";

/** How to reach STS: from the configuration, else the environment, else the instance's own metadata. */
export function stsSettings(
  config: Config,
  environment: Environment,
  log: Log,
  clocks: Clocks,
  metadata: MetadataClient,
): StsSettings {
  const { accessKeyId, secretAccessKey, sessionToken } = environment;
  return {
    metadata,
    region: config.sts.region ?? environment.awsRegion,
    endpoint: config.sts.endpoint ?? environment.stsEndpoint,
    hostKeys:
      accessKeyId === undefined || secretAccessKey === undefined
        ? undefined
        : { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) },
    assumeFirst: config.sts.assumeFirst,
    useFips: config.sts.useFips,
    useDualstack: config.sts.useDualstack,
    proxyEnvironment: environment.proxy,
    ...(environment.caBundle !== undefined && { caBundle: environment.caBundle }),
    maxSockets: config.sts.callsInFlight,
    log,
    ...clocks,
  };
}
