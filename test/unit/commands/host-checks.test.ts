import t from "tap";
import { hostChecks } from "../../../src/commands/host-checks.ts";
import { parseConfig, readEnvironment } from "../../../src/config/load.ts";

const nothing = () => undefined;
const log = { debug: nothing, info: nothing, warn: nothing, error: nothing };

t.test("an alias named like a member of every object is checked with its own role", async (t) => {
  const arn = (name: string) => `arn:aws:iam::123456789012:role/${name}`;
  const parsed = parseConfig(
    JSON.stringify({
      aliases: { constructor: { roleArn: arn("full"), externalId: "external" } },
      aliasToARN: { toString: arn("short"), hasOwnProperty: arn("own") },
      sts: { region: "eu-west-1", endpoint: "http://127.0.0.1:1" },
    }),
    "config.json",
  );
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  const { config } = parsed;
  const environment = readEnvironment({
    AWS_ACCESS_KEY_ID: "AKIAIOSFODNN7EXAMPLE",
    AWS_SECRET_ACCESS_KEY: "x",
  });
  const services = { units: [], unknownBecause: undefined, environment, unreadable: [] };
  const { role } = hostChecks(services, log, [], false);
  for (const [alias, name] of [
    ["constructor", "full"],
    ["toString", "short"],
    ["hasOwnProperty", "own"],
  ] as const) {
    await t.test(alias, (t) =>
      t.rejects(role(config, alias), { message: `${alias}: assuming ${arn(name)}` }),
    );
  }
});
