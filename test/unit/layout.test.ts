import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import t from "tap";

/**
 * The layout of src: imports run one way, each outside system has one importer, each file has a test. It is read from the import lines
 * and the file names, so that a new file is checked without being listed here.
 */
const root = join(import.meta.dirname, "../../src");
const tests = join(import.meta.dirname, "..");

/** From the bottom up: a folder may import itself and the layers before it. */
const floors = [
  ["text.ts"],
  ["errors.ts", "log.ts", "output.ts", "single-flight.ts", "token-bucket.ts", "version.ts"],
  ["config"],
  ["containers"],
  ["engine"],
  ["roles"],
  ["credentials"],
  ["imds"],
  ["firewall", "systemd", "observability"],
  ["cli.ts"],
  ["commands"],
  ["main.ts"],
];

/**
 * Source files without a test file of their name: the test that covers them, or "types only". A file that no unit test reaches names a
 * test that runs the whole program.
 */
const testedElsewhere: Readonly<Record<string, string>> = {
  "commands/clocks.ts": "unit/credentials/clocks.test.ts",
  "commands/configuration.ts": "unit/config/relations.test.ts",
  "commands/descriptors.ts": "host/appliance.test.ts",
  "commands/explain-here.ts": "unit/commands/explain.test.ts",
  "commands/explanation.ts": "unit/commands/explain.test.ts",
  "commands/firewall-apply.ts": "unit/firewall/command.test.ts",
  "commands/firewall-filters.ts": "unit/firewall/command.test.ts",
  "commands/firewall-here.ts": "unit/commands/check.test.ts",
  "commands/firewall-options.ts": "types only",
  "commands/firewall-settings.ts": "unit/firewall/command.test.ts",
  "commands/firewall-status.ts": "unit/firewall/command.test.ts",
  "commands/firewall.ts": "unit/firewall/command.test.ts",
  "commands/inventory.ts": "unit/config/static-addresses.test.ts",
  "commands/listen.ts": "host/appliance.test.ts",
  "commands/prefetching.ts": "unit/leak.test.ts",
  "commands/serve-metrics.ts": "unit/observability/metrics.test.ts",
  "commands/serve-status.ts": "unit/observability/metrics.test.ts",
  "commands/serve.ts": "unit/leak.test.ts",
  "commands/signals.ts": "host/appliance.test.ts",
  "commands/status.ts": "unit/observability/admin.test.ts",
  "commands/sts-settings.ts": "unit/leak.test.ts",
  "config/json.ts": "unit/config/load.test.ts",
  "config/problems.ts": "unit/config/load.test.ts",
  "config/read-text.ts": "unit/config/hostile-files.test.ts",
  "config/schema.ts": "unit/config/load.test.ts",
  "config/suggest.ts": "unit/firewall/settings.test.ts",
  "config/values.ts": "unit/config/load.test.ts",
  "containers/container.ts": "unit/containers/directory.test.ts",
  "containers/proc.ts": "unit/containers/provenance.test.ts",
  "credentials/answer.ts": "unit/credentials/cache.test.ts",
  "credentials/assume-role.ts": "unit/credentials/sts.test.ts",
  "credentials/bucket.ts": "unit/credentials/clocks.test.ts",
  "credentials/calls.ts": "unit/credentials/cache.test.ts",
  "credentials/entry.ts": "unit/credentials/cache.test.ts",
  "credentials/first-hop.ts": "unit/credentials/sts.test.ts",
  "credentials/host-credentials.ts": "unit/credentials/sts.test.ts",
  "credentials/host-sts.ts": "unit/credentials/sts.test.ts",
  "credentials/limits.ts": "unit/credentials/cache.test.ts",
  "credentials/log-lines.ts": "unit/credentials/failures.test.ts",
  "credentials/rate.ts": "unit/credentials/clocks.test.ts",
  "credentials/scheduler.ts": "unit/credentials/cache.test.ts",
  "credentials/sdk-errors.ts": "unit/credentials/classification.test.ts",
  "credentials/sts-answer.ts": "unit/credentials/foreign-answers.test.ts",
  "credentials/sts-client.ts": "unit/credentials/sts.test.ts",
  "credentials/sts-settings.ts": "unit/credentials/sts.test.ts",
  "credentials/usable.ts": "unit/credentials/cache.test.ts",
  "engine/json.ts": "unit/engine/inspect.test.ts",
  "engine/session.ts": "unit/engine/connection.test.ts",
  "engine/sync.ts": "unit/engine/connection.test.ts",
  "errors.ts": "unit/cli.test.ts",
  "firewall/backend.ts": "unit/firewall/golden.test.ts",
  "firewall/choose.ts": "unit/firewall/command.test.ts",
  "firewall/conntrack.ts": "unit/firewall/command.test.ts",
  "firewall/ebtables.ts": "unit/firewall/passing.test.ts",
  "firewall/frame-filter.ts": "types only",
  "firewall/host-addresses.ts": "unit/firewall/bridge-table.test.ts",
  "firewall/host-users.ts": "unit/firewall/command.test.ts",
  "firewall/iptables-live.ts": "unit/firewall/iptables.test.ts",
  "firewall/iptables-made.ts": "unit/firewall/iptables.test.ts",
  "firewall/iptables-tables.ts": "unit/firewall/iptables.test.ts",
  "firewall/layer2.ts": "unit/firewall/command.test.ts",
  "firewall/nft-bridge.ts": "unit/firewall/bridge-table.test.ts",
  "firewall/nft-listing.ts": "unit/firewall/nftables.test.ts",
  "firewall/others.ts": "unit/firewall/command.test.ts",
  "firewall/route-guard.ts": "unit/firewall/command.test.ts",
  "firewall/ruleset.ts": "unit/firewall/golden.test.ts",
  "firewall/setting-values.ts": "unit/firewall/settings.test.ts",
  "firewall/values.ts": "unit/firewall/settings.test.ts",
  "imds/callers.ts": "unit/imds/handler.test.ts",
  "imds/connection.ts": "unit/imds/handler.test.ts",
  "imds/door.ts": "unit/imds/server.test.ts",
  "imds/fair-share.ts": "unit/imds/server.test.ts",
  "imds/framing.ts": "unit/imds/server.test.ts",
  "imds/host.ts": "unit/imds/handler.test.ts",
  "imds/identity.ts": "unit/imds/handler.test.ts",
  "imds/strangers.ts": "unit/imds/server.test.ts",
  "imds/turn-away.ts": "unit/imds/server.test.ts",
  "imds/upstream-answer.ts": "unit/imds/upstream.test.ts",
  "imds/upstream-flights.ts": "unit/imds/upstream-cache.test.ts",
  "imds/upstream-kept.ts": "unit/imds/upstream-cache.test.ts",
  "imds/upstream-rate.ts": "unit/imds/upstream-queue.test.ts",
  "imds/upstream-stream.ts": "unit/imds/upstream.test.ts",
  "imds/upstream-token.ts": "unit/imds/upstream.test.ts",
  "imds/upstream-unread.ts": "load/upstream-hog.test.ts",
  "imds/upstream-wire.ts": "unit/imds/upstream.test.ts",
  "log.ts": "types only",
  "main.ts": "unit/commands/whole-output.test.ts",
  "roles/policy.ts": "unit/roles/grant.test.ts",
  "version.ts": "unit/commands/whole-output.test.ts",
};

const soleImporters: Readonly<Record<string, readonly string[]>> = {
  dockerode: ["engine/client.ts"],
  "@aws-sdk/client-sts": ["credentials/sts-client.ts"],
  execa: ["firewall/command.ts"],
  pino: ["observability/journal.ts"],
  "prom-client": ["observability/metrics.ts"],
  zod: ["config/problems.ts", "config/schema.ts", "config/values.ts"],
};

type Import = { readonly file: string; readonly module: string };

const files = readdirSync(root, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));

const imports: readonly Import[] = files.flatMap((file) => {
  const text = readFileSync(join(root, file), "utf8");
  const found = text.matchAll(
    /^(?:import|export)\b[^;]*?from\s+"([^"]+)"|^import\s+"([^"]+)"|\bimport\("([^"]+)"\)/gms,
  );
  return [...found].map(([, from, bare, dynamic]) => ({ file, module: from ?? bare ?? dynamic ?? "" }));
});

function floorOf(file: string): number {
  const [top = ""] = file.split("/");
  return floors.findIndex((names) => names.includes(top));
}

const testOf = (file: string) => `unit/${file.replace(/\.ts$/, ".test.ts")}`;
const hasTest = (test: string) => existsSync(join(tests, test));

t.test("every file belongs to a layer", (t) => {
  t.ok(files.length > 30, "the source was found");
  t.same(
    files.filter((file) => floorOf(file) === -1),
    [],
  );
  t.end();
});

t.test("no import runs upward", (t) => {
  const upward = imports
    .filter(({ module }) => module.startsWith("."))
    .map(({ file, module }) => ({ file, target: relative(root, join(root, file, "..", module)) }))
    .filter(({ file, target }) => {
      const [from, to] = [file.split("/")[0], target.split("/")[0]];
      return from !== to && floorOf(target) >= floorOf(file);
    });
  t.same(upward, []);
  t.end();
});

for (const [module, allowed] of Object.entries(soleImporters))
  t.test(`${module} is imported by ${allowed.join(", ")} only`, (t) => {
    const importers = new Set(
      imports
        .filter((line) => line.module === module || line.module.startsWith(`${module}/`))
        .map(({ file }) => file),
    );
    t.same(
      [...importers].filter((file) => !allowed.includes(file)),
      [],
    );
    t.ok(importers.size > 0, "it is used");
    t.end();
  });

t.test("every file is tested by a test of its name, or listed with the test that covers it", (t) => {
  t.same(files.filter((file) => !hasTest(testOf(file)) && testedElsewhere[file] === undefined).sort(), []);
  t.end();
});

for (const [file, reason] of Object.entries(testedElsewhere))
  t.test(`${file}, which has no test of its name, is listed with a reason that holds`, (t) => {
    t.ok(files.includes(file), "the file exists");
    t.notOk(hasTest(testOf(file)), "it has no test of its name");
    if (reason !== "types only") t.ok(hasTest(reason), `${reason} exists`);
    else if (files.includes(file))
      t.notMatch(
        readFileSync(join(root, file), "utf8"),
        /^export (?!type\b|interface\b)/m,
        "it holds types only",
      );
    t.end();
  });

t.test(
  "the environment is read in one place, and only main writes to the terminal and ends the process",
  (t) => {
    const uses = (pattern: RegExp) =>
      files.filter((file) => pattern.test(readFileSync(join(root, file), "utf8"))).sort();
    t.same(uses(/\bprocess\.env\b/), ["config/load.ts"]);
    t.same(uses(/\bprocess\.(stdout|stderr|exit|exitCode|argv)\b/), ["main.ts"]);
    t.same(uses(/\bconsole\./), []);
    t.end();
  },
);

t.test("no file or folder has a name that says nothing", (t) => {
  t.same(
    files.filter((file) => /(^|\/)(utils?|lib|helpers?|common|misc)(\/|\.ts$)/.test(file)),
    [],
  );
  t.end();
});
