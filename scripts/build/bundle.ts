import { build, type Metafile } from "esbuild";
import { leaveOut } from "./left-out.ts";

export type BuildInfo = {
  /** As in package.json. */
  readonly version: string;
  /** Short hash; with `-dirty` when the tree differs from the commit. */
  readonly commit: string;
  /** Of the commit, as `2026-01-31`. */
  readonly date: string;
};

/** Everything from `entry` down in one CommonJS file. Its bytes depend on the sources and `info` only. */
export async function bundle(
  root: string,
  entry: string,
  outfile: string,
  info: BuildInfo,
): Promise<Metafile> {
  const result = await build({
    // The bundle names its modules by their paths from here.
    absWorkingDir: root,
    entryPoints: [entry],
    outfile,
    bundle: true,
    platform: "node",
    target: "node26",
    // A single executable's main script is CommonJS; only that kind has a code cache.
    format: "cjs",
    // The ES entry points let unused code go: client-sts alone is 307 kB so, and 447 kB from its CommonJS entry.
    mainFields: ["module", "main"],
    // Not the identifiers: names of functions and classes stand in error reports and stack traces, and start and memory are the same.
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: "none",
    metafile: true,
    define: { __EC2METAPROXY_BUILD__: JSON.stringify(info) },
    // Only read when run from source (systemd/notify.ts); CommonJS has none.
    logOverride: { "empty-import-meta": "silent" },
    plugins: [leaveOut],
  });
  return result.metafile;
}
