import { build, type Metafile } from "esbuild";
import { leaveOut } from "./left-out.ts";

export type BuildInfo = {
  /** As in package.json. */
  readonly version: string;
  /** Short hash, with `-dirty` if the tree differs from the commit. */
  readonly commit: string;
  /** The date of the commit, as `2026-01-31`. */
  readonly date: string;
};

/**
 * Bundles `entry` and its imports into one CommonJS file. Its bytes depend only on the sources and `info`.
 */
export async function bundle(
  root: string,
  entry: string,
  outfile: string,
  info: BuildInfo,
): Promise<Metafile> {
  const result = await build({
    // The bundle contains module paths relative to this folder.
    absWorkingDir: root,
    entryPoints: [entry],
    outfile,
    bundle: true,
    platform: "node",
    target: "node26",
    // The main script of a single executable is CommonJS; only CommonJS has a code cache.
    format: "cjs",
    // ES entry points allow tree shaking: client-sts is 307 kB this way, and 447 kB from its CommonJS entry.
    mainFields: ["module", "main"],
    // Identifiers are kept for error reports and stack traces. Minifying them changes neither start-up time
    // nor memory.
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: "none",
    metafile: true,
    define: { __EC2METAPROXY_BUILD__: JSON.stringify(info) },
    // Only used when run from source (systemd/notify.ts); CommonJS has no import.meta.
    logOverride: { "empty-import-meta": "silent" },
    plugins: [leaveOut],
  });
  return result.metafile;
}
