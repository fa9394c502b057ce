import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dirname, "../../..");

/** The packages of the current sources, in the current version and a later one. Paths on this machine. */
export type BuiltPackages = {
  readonly deb: string;
  readonly rpm: string;
  readonly nextDeb: string;
  readonly nextRpm: string;
  /**
   * As far as dpkg, rpm and systemd are concerned, release 1.0.0: its units, its scripts, its user in group
   * docker. The executable is the current one.
   */
  readonly firstDeb: string;
  readonly firstRpm: string;
};

/** Everything that goes into a package, or determines how it is built. */
const sources = [
  "src",
  "systemd",
  "packaging",
  "firewall",
  "docs",
  "CHANGELOG.md",
  "LICENSE",
  "README.md",
  "SECURITY.md",
  "scripts",
  "nfpm.yaml",
  "package.json",
  "package-lock.json",
  "test/fixtures/release-1.0.0",
];
const nextVersion = "9.9.9";
const firstRelease = join(root, "test/fixtures/release-1.0.0");

/**
 * Built by the same scripts as a release (about a minute), and cached in the user's cache folder until the
 * sources change. Not safe for two processes at once: scripts/test calls it before it runs files side by
 * side.
 */
export function builtPackages(): BuiltPackages {
  const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "ec2metaproxy", "packages");
  const state = stateOfSources();
  const folder = join(cache, state);
  if (!existsSync(folder)) {
    rmSync(cache, { recursive: true, force: true });
    const work = join(cache, `${state}.unfinished`);
    mkdirSync(work, { recursive: true });
    build(work);
    renameSync(work, folder);
  }
  const find = (pattern: RegExp, place = folder) => {
    const name = readdirSync(place).find((file) => pattern.test(file));
    if (name === undefined) throw new Error(`building the packages: nothing in ${place} matches ${pattern}`);
    return join(place, name);
  };
  return {
    deb: find(/^ec2metaproxy_(?!9\.9\.9).*\.deb$/),
    rpm: find(/^ec2metaproxy-(?!9\.9\.9).*\.rpm$/),
    nextDeb: find(/^ec2metaproxy_9\.9\.9.*\.deb$/),
    nextRpm: find(/^ec2metaproxy-9\.9\.9.*\.rpm$/),
    firstDeb: find(/\.deb$/, join(folder, "first")),
    firstRpm: find(/\.rpm$/, join(folder, "first")),
  };
}

function build(work: string): void {
  const run = (program: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) =>
    execFileSync(program, args, {
      cwd: root,
      env: { ...process.env, DIST: work, ARCH: process.arch, ...env },
      stdio: ["ignore", "ignore", "inherit"],
    });
  run(process.execPath, ["scripts/build.ts"]);
  run(process.execPath, ["scripts/sbom.ts"]);
  run("scripts/package", []);
  // Only for upgrade tests, so their size does not matter.
  const quick = { DEB_COMPRESSION: "none", RPM_COMPRESSION: "gzip:1" };
  run("scripts/package", [], { VERSION: nextVersion, ...quick });
  const tree = join(work, "first-tree");
  layFirstRelease(tree);
  run(join(tree, "scripts/package"), [], { VERSION: "1.0.0", OUT: join(work, "first"), ...quick });
  rmSync(tree, { recursive: true });
}

/** The sources, and over them what was different in the first release. */
function layFirstRelease(tree: string): void {
  for (const source of sources) cpSync(join(root, source), join(tree, source), { recursive: true });
  cpSync(firstRelease, tree, { recursive: true });
  symlinkSync(join(root, "node_modules"), join(tree, "node_modules"));
}

function stateOfSources(): string {
  const hash = createHash("sha256");
  for (const source of sources) {
    const path = join(root, source);
    const files = statSync(path).isFile()
      ? [path]
      : readdirSync(path, { recursive: true, withFileTypes: true })
          .filter((entry) => entry.isFile())
          .map((entry) => join(entry.parentPath, entry.name))
          .sort();
    for (const file of files) hash.update(`${file}\0`).update(readFileSync(file));
  }
  return hash.digest("hex").slice(0, 16);
}
