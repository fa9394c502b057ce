import type { Config } from "./schema.ts";

/** The changed ones of the keys that are read once, when the service starts. */
export function needsRestart(before: Config, after: Config): readonly string[] {
  const keys = [
    "listen",
    "dockerHost",
    "dockerHosts",
    "dockerTls",
    "metadataEndpoint",
    "sts",
    "limits",
    "containerCredentials",
    "metricsListen",
  ] as const;
  return keys.filter((key) => JSON.stringify(before[key]) !== JSON.stringify(after[key]));
}
