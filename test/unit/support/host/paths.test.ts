import { globSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import t from "tap";

/**
 * The harness refers to files by path: programs that it starts, scripts that run on a booted host, files that
 * it copies. The type checker does not see those paths, and the suites that use them need root and a host to
 * boot.
 */
const root = join(import.meta.dirname, "../../../..");

/** Relative to the repository (mounted on a booted host), or to the module. */
const pathPatterns = [
  { pattern: /\$\{repository\}\/([\w./*-]+)/g, from: () => root },
  { pattern: /join\(import\.meta\.dirname, "([^"]+)"\)/g, from: dirname },
  { pattern: /new URL\("([^"$]+)", import\.meta\.url\)/g, from: dirname },
];

/** Paths in `text` that match no file. `dist/` is left out: a fresh checkout does not have it. */
function missingPaths(file: string, text: string): readonly string[] {
  return pathPatterns.flatMap(({ pattern, from }) =>
    [...text.replaceAll(`\${process.arch}`, process.arch).matchAll(pattern)]
      .map(([, path = ""]) => path)
      .filter((path) => !path.includes("dist/") && globSync(join(from(file), path)).length === 0),
  );
}

for (const path of globSync("{test,scripts}/**/*.ts", { cwd: root }).sort()) {
  if (path.startsWith("test/unit/")) continue;
  const file = join(root, path);
  const text = readFileSync(file, "utf8");
  if (!pathPatterns.some(({ pattern }) => text.search(pattern) !== -1)) continue;
  t.test(`${path}: every file that it names by path exists`, async (t) => {
    t.same(missingPaths(file, text), []);
  });
}

for (const script of ["scripts/test", "scripts/test-sdks", "scripts/testhost", "Makefile"])
  t.test(`${script}: every program of the repository that it runs exists`, async (t) => {
    const text = readFileSync(join(root, script), "utf8");
    const programs = text.match(/\b(?:test|scripts)\/[\w./-]+\.(?:ts|py|sh)\b/g) ?? [];
    const missing = programs.filter((program) => globSync(join(root, program)).length === 0);
    t.same(missing, []);
  });

t.test("a path to a file that does not exist is found", async (t) => {
  const text = 'join(import.meta.dirname, "gone.sh"); join(import.meta.dirname, "paths.test.ts")';
  t.same(missingPaths(import.meta.filename, text), ["gone.sh"]);
});
