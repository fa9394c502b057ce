import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import t from "tap";

/**
 * The layout of src: imports run one way, each outside system has one importer, each file has a test. It is
 * read from the import lines and the file names, so a new file is checked without being listed here.
 */
const root = join(import.meta.dirname, "../../src");
const tests = join(import.meta.dirname, "..");

/** From the bottom up: a folder may import itself and the layers before it. */
const floors = [
  ["log-codes.ts", "text.ts"],
  ["errors.ts", "log.ts", "output.ts", "single-flight.ts", "token-bucket.ts", "usage.ts", "version.ts"],
  ["config"],
  ["metadata"],
  ["containers"],
  ["engine"],
  ["guard"],
  ["roles"],
  ["credentials"],
  ["imds"],
  ["firewall", "systemd", "observability"],
  ["cli.ts"],
  ["commands"],
  ["main.ts"],
];

/**
 * Source files without a test file of their name: the test that covers them, or "types only". A file that no
 * unit test reaches names a test of the whole program.
 */
const testedElsewhere: Readonly<Record<string, string>> = {
  "commands/clocks.ts": "unit/credentials/clock.test.ts",
  "commands/engines.ts": "unit/commands/explain.test.ts",
  "commands/explain-live.ts": "unit/commands/container-status.test.ts",
  "commands/explanation-text.ts": "unit/commands/explain.test.ts",
  "commands/explanation.ts": "unit/commands/explain.test.ts",
  "commands/finding.ts": "types only",
  "commands/firewall-filters.ts": "unit/commands/firewall.test.ts",
  "commands/firewall-plan.ts": "unit/commands/firewall.test.ts",
  "commands/firewall-status.ts": "unit/commands/firewall.test.ts",
  "commands/firewall-probe.ts": "netns/probe.test.ts",
  "commands/inventory.ts": "unit/commands/explain.test.ts",
  "commands/proxy.ts": "unit/imds/handler.test.ts",
  "commands/proxy-durations.ts": "unit/commands/serve-metrics.test.ts",
  "commands/serve-status.ts": "unit/commands/serve-metrics.test.ts",
  "commands/status-text.ts": "unit/commands/status.test.ts",
  "commands/statics.ts": "unit/config/values.test.ts",
  "commands/sts-settings.ts": "unit/imds/role-credentials.test.ts",
  "credentials/stats.ts": "types only",
  "credentials/sts-settings.ts": "unit/credentials/sts.test.ts",
  "containers/protection.ts": "types only",
  "firewall/backend.ts": "unit/commands/firewall.test.ts",
  "firewall/conntrack.ts": "unit/commands/firewall.test.ts",
  "firewall/ebtables.ts": "netns/frames.test.ts",
  "firewall/find-ports.ts": "unit/firewall/port-lock.test.ts",
  "firewall/host-users.ts": "unit/commands/firewall.test.ts",
  "firewall/iptables.ts": "unit/firewall/ruleset.test.ts",
  "firewall/layer2.ts": "unit/commands/firewall.test.ts",
  "firewall/lock-table.ts": "netns/port-lock.test.ts",
  "firewall/nft-table.ts": "unit/firewall/nftables.test.ts",
  "firewall/notes.ts": "unit/commands/firewall.test.ts",
  "firewall/probe.ts": "netns/probe.test.ts",
  "firewall/probe-namespace.ts": "netns/probe.test.ts",
  "firewall/route-guard.ts": "unit/commands/firewall-apply.test.ts",
  "guard/protocol.ts": "unit/guard/subscriber.test.ts",
  "imds/access.ts": "unit/observability/access.test.ts",
  "imds/activity.ts": "unit/observability/container-health.test.ts",
  "imds/admission.ts": "unit/imds/server.test.ts",
  "imds/connection.ts": "unit/imds/identity.test.ts",
  "imds/exchange.ts": "unit/imds/handler.test.ts",
  "imds/rejections.ts": "unit/imds/server.test.ts",
  "imds/upstream-answer.ts": "unit/imds/upstream.test.ts",
  "imds/upstream-flights.ts": "unit/imds/upstream-cache.test.ts",
  "imds/upstream-kept.ts": "unit/imds/upstream-cache.test.ts",
  "imds/upstream-stream.ts": "unit/imds/upstream.test.ts",
  "imds/upstream-unread.ts": "load/upstream-hog.test.ts",
  "log.ts": "types only",
  "observability/durations.ts": "unit/observability/metrics.test.ts",
  "metadata/error.ts": "unit/metadata/client.test.ts",
  "roles/denial.ts": "unit/roles/grant.test.ts",
  "version.ts": "unit/main.test.ts",
};

const soleImporters: Readonly<Record<string, readonly string[]>> = {
  dockerode: ["engine/client.ts"],
  "@aws-sdk/client-sts": ["credentials/sts-client.ts"],
  execa: ["firewall/command.ts"],
  pino: ["observability/journal.ts"],
  "prom-client": ["observability/metrics.ts"],
  zod: ["config/problems.ts", "config/schema.ts", "config/values.ts", "guard/protocol.ts"],
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

t.test("no imports form a circle, types included", (t) => {
  const targets = (file: string) =>
    imports
      .filter((line) => line.file === file && line.module.startsWith("."))
      .map(({ module }) => relative(root, join(root, file, "..", module)));
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): readonly string[] => {
    if (path.includes(file)) return [[...path.slice(path.indexOf(file)), file].join(" -> ")];
    if (done.has(file)) return [];
    const circles = targets(file).flatMap((target) => visit(target, [...path, file]));
    done.add(file);
    return circles;
  };
  t.same(
    files.flatMap((file) => visit(file, [])),
    [],
  );
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

t.test("a comment line has at most 110 columns", (t) => {
  const project = join(tests, "..");
  const wide = ["src", "scripts", "test"].flatMap((folder) =>
    readdirSync(join(project, folder), { recursive: true, encoding: "utf8" })
      .filter((file) => file.endsWith(".ts"))
      .flatMap((file) =>
        readFileSync(join(project, folder, file), "utf8")
          .split("\n")
          .flatMap((line, at) =>
            /^\s*(\/\/|\/?\*+ )/.test(line) && line.length > 110 ? [`${folder}/${file}:${at + 1}`] : [],
          ),
      ),
  );
  t.same(wide, []);
  t.end();
});
