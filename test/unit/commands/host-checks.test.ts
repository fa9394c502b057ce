import t, { type Test } from "tap";
import { check } from "../../../src/commands/check.ts";
import type { Finding } from "../../../src/commands/finding.ts";
import { hostChecks } from "../../../src/commands/host-checks.ts";
import type { Services } from "../../../src/commands/services.ts";
import { type Environment, parseConfig, readEnvironment } from "../../../src/config/load.ts";
import { failures } from "../../../src/credentials/failures.ts";
import { account } from "../../support/aws/account.ts";
import { type Aws, startAws } from "../../support/aws/aws.ts";

const nothing = () => undefined;
const log = { debug: nothing, info: nothing, warn: nothing, error: nothing };

/** A host where nothing is installed. */
function servicesWith(environment: Environment): Services {
  return {
    ...{ units: [], unknownBecause: undefined, unreadable: [] },
    ...{ environment, environmentOf: "this process" },
  };
}

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
  const { role } = hostChecks(servicesWith(environment), log, [], false);
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

/** The findings of `check` about the services that it asks, on a host of this stand-in. */
async function findings(t: Test, aws: Aws, alias: Readonly<Record<string, unknown>> = {}) {
  const written = {
    aliases: { web: { roleArn: `arn:aws:iam::${account.id}:role/web`, ...alias } },
    metadataEndpoint: aws.imds.url,
    sts: { region: "eu-west-1", endpoint: aws.sts.url },
    // The other checks are not what is tested here.
    dockerHost: "unix:///nonexistent/docker.sock",
  };
  const configPath = `${t.testdir({ "config.json": JSON.stringify(written) })}/config.json`;
  const environment = readEnvironment({});
  const none = async () => [];
  let printed = "";
  await check(
    { configPath, configOnly: false, json: true, guard: "/nonexistent/containers.sock" },
    (text) => {
      printed += text;
    },
    log,
    (checked) => ({ ...hostChecks(servicesWith(checked), log, [], false), firewall: none, services: none }),
    Promise.resolve(environment),
  );
  return (JSON.parse(printed) as readonly Finding[]).filter(
    (
      { subject }, // printed by check
    ) => ["metadata", "sts", "role"].includes(subject),
  );
}

for (const { what, imds = {}, sts = {}, failed } of [
  {
    what: "no instance profile",
    imds: { noRole: true },
    failed: { sts: "no-instance-profile", role: "no-instance-profile" },
  },
  {
    what: "IMDS is turned off",
    imds: { status: 403 },
    failed: { metadata: "metadata-disabled", sts: "metadata-disabled", role: "metadata-disabled" },
  },
  {
    what: "the role cannot be assumed",
    sts: { accessDenied: true },
    failed: { role: "trust-or-permission" },
  },
  {
    what: "STS is not activated in the region",
    sts: { regionDisabled: true },
    failed: { sts: "region-disabled", role: "region-disabled" },
  },
  { what: "STS throttles", sts: { throttle: true }, failed: { sts: "throttled", role: "throttled" } },
  {
    what: "a login page answers",
    sts: { foreign: "login-200" },
    failed: { sts: "not-from-sts", role: "not-from-sts" },
  },
] as const)
  t.test(`${what}: each check that fails says so, with the cure`, async (t) => {
    await using aws = await startAws();
    aws.imds.setFaults(imds);
    aws.sts.faults.set(sts);
    const found = (await findings(t, aws)).filter(({ ok }) => ok === false);
    t.same(
      Object.fromEntries(found.map(({ subject, hint }) => [subject, hint.split(". ").slice(1).join(". ")])),
      Object.fromEntries(Object.entries(failed).map(([subject, name]) => [subject, failures[name].cure])),
    );
  });

t.test("a duration that the role does not allow is noted: containers get an hour", async (t) => {
  await using aws = await startAws();
  const role = (await findings(t, aws, { durationSeconds: 7_200 })).find(({ subject }) => subject === "role");
  const { cause, cure } = failures["duration-over-role-maximum"];
  t.match(role, { ok: undefined, hint: cure });
  t.ok(role?.text.endsWith(`for one hour at a time: ${cause}`), `${role?.text}`);
});
