import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import t from "tap";

/**
 * The house as ARCHITECTURE lays it out: imports run one way, and each outside system has one importer.
 * Read off the import lines, so a new file is judged without being listed here.
 */
const root = join(import.meta.dirname, "../../src");

/** From the bottom up; a folder may import itself and what stands before it. */
const floors = [
  ["text.ts"],
  ["errors.ts", "log.ts", "output.ts", "single-flight.ts", "version.ts"],
  ["config"],
  ["metadata"],
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

t.test("every file stands on a floor of the house", (t) => {
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

t.test("each outside system has one importer", (t) => {
  for (const [module, allowed] of Object.entries(soleImporters)) {
    const importers = [
      ...new Set(
        imports
          .filter((line) => line.module === module || line.module.startsWith(`${module}/`))
          .map(({ file }) => file),
      ),
    ];
    t.same(
      importers.filter((file) => !allowed.includes(file)),
      [],
      `${module} is imported by ${allowed.join(", ")} only`,
    );
    t.ok(importers.length > 0, `${module} is used`);
  }
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

t.test("no folder is called after nothing", (t) => {
  t.same(
    files.filter((file) => /(^|\/)(utils?|lib|helpers?|common|misc)(\/|\.ts$)/.test(file)),
    [],
  );
  t.end();
});
