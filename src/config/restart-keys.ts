import type { Config } from "./schema.ts";

type Effect = "reload" | "restart";
/**
 * For every key, or for each key of a section. A new key in the schema does not compile until it is listed
 * here.
 */
type Effects<Of> = {
  readonly [Key in keyof Of]-?:
    | Effect
    | (NonNullable<Of[Key]> extends object ? Effects<NonNullable<Of[Key]>> : never);
};

/** When a change takes effect. serve.ts implements this. */
const effects: Effects<Config> = {
  $schema: "reload",
  listen: "restart",
  defaultAlias: "reload",
  aliasToARN: "reload",
  aliases: "reload",
  defaultPolicy: "reload",
  dockerHost: "restart",
  dockerHosts: "restart",
  dockerTls: "restart",
  verbose: "restart",
  allowRoleArns: "reload",
  requireLabel: "reload",
  refuse: "reload",
  httpTokens: "reload",
  metadataEndpoint: "restart",
  passthrough: {
    enabled: "reload",
    allow: "reload",
    deny: "reload",
    cacheSeconds: "restart",
    requestsPerSecond: "restart",
  },
  sts: {
    region: "restart",
    endpoint: "restart",
    assumeFirst: "restart",
    useFips: "restart",
    useDualstack: "restart",
    callsInFlight: "restart",
    callsPerSecond: "restart",
    startSpreadSeconds: "restart",
  },
  sessionName: "reload",
  identityProof: "reload",
  prefetch: "reload",
  staticContainers: "reload",
  limits: { requestsPerSecond: "reload", connections: "restart" },
  containerCredentials: { listen: "restart" },
  metricsListen: "restart",
};

/** The changed keys that are read only when the service starts, such as `limits.connections`. */
export function needsRestart(before: Config, after: Config): readonly string[] {
  return changed(effects, before, after);
}

function changed(of: Readonly<Record<string, unknown>>, before: unknown, after: unknown): readonly string[] {
  return Object.entries(of).flatMap(([key, effect]) => {
    const [one, two] = [member(before, key), member(after, key)];
    if (effect === "reload" || JSON.stringify(one) === JSON.stringify(two)) return [];
    if (effect === "restart") return [key];
    return changed(Object(effect), one, two).map((leaf) => `${key}.${leaf}`);
  });
}

/** Undefined also if the section is missing. */
function member(of: unknown, key: string): unknown {
  return typeof of === "object" && of !== null ? Reflect.get(of, key) : undefined;
}
