import t from "tap";
import { parseConfig } from "../../../src/config/load.ts";
import { needsRestart } from "../../../src/config/restart-keys.ts";
import type { Config } from "../../../src/config/schema.ts";

const role = "arn:aws:iam::123456789012:role/db";

function configOf(value: unknown): Config {
  const parsed = parseConfig(JSON.stringify(value), "f");
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  return parsed.config;
}

const changes: readonly [unknown, readonly string[]][] = [
  [{}, []],
  [{ verbose: true }, ["verbose"]],
  [{ listen: ":1", metricsListen: ":2" }, ["listen", "metricsListen"]],
  [{ limits: { requestsPerSecond: 5 } }, []],
  [{ limits: { requestsPerSecond: 5, connections: 6 } }, ["limits.connections"]],
  [{ passthrough: { enabled: false, allow: ["mac"], deny: ["spot"] } }, []],
  [
    { passthrough: { cacheSeconds: 1, requestsPerSecond: 2 } },
    ["passthrough.cacheSeconds", "passthrough.requestsPerSecond"],
  ],
  [{ sts: { region: "eu-west-1", callsPerSecond: 1 } }, ["sts.region", "sts.callsPerSecond"]],
  [{ containerCredentials: { listen: ":1" } }, ["containerCredentials.listen"]],
  [{ dockerTls: { ca: "/a", cert: "/b", key: "/c" } }, ["dockerTls"]],
  [
    {
      defaultAlias: "a",
      aliasToARN: { a: role },
      httpTokens: "optional",
      identityProof: "token",
      prefetch: false,
      staticContainers: { "10.0.0.5": { name: "vm" } },
    },
    [],
  ],
];
for (const [change, keys] of changes) {
  t.test(`a change to ${JSON.stringify(change)} and back names ${keys.join(", ") || "nothing"}`, (t) => {
    t.same(needsRestart(configOf({}), configOf(change)), keys);
    t.same(needsRestart(configOf(change), configOf({})), keys);
    t.same(needsRestart(configOf(change), configOf(change)), []);
    t.end();
  });
}
