import { chmodSync, copyFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import type { NodePackage } from "./node-package.ts";
import { run } from "./run.ts";
import type { Target } from "./target.ts";

/**
 * The resource name and the fuse that Node searches for in itself
 * (nodejs.org/api/single-executable-applications.html).
 */
const resource = "NODE_SEA_BLOB";
const sentinel = "NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2";

/** The arguments of the executable's Node, independent of the operator's environment. */
const nodeArguments: readonly string[] = [];

/** Writes a copy of Node with the bundle `main.cjs` of `folder` to `to`. */
export function makeExecutable(
  root: string,
  folder: string,
  node: NodePackage,
  of: Target,
  to: string,
): "with code cache" | "without code cache" {
  // Strip first: a binary that is stripped after the injection prints nothing.
  copyFileSync(`${node.folder}/bin/node`, to);
  chmodSync(to, 0o755);
  run(`${of.toolchain}strip`, ["--remove-section=.comment", to]);

  const interpreter = runnerOf(of);
  writeBlob(folder, node, interpreter);
  run(`${root}/node_modules/.bin/postject`, [
    to,
    resource,
    `${folder}/main.blob`,
    "--sentinel-fuse",
    sentinel,
  ]);
  return interpreter === undefined ? "without code cache" : "with code cache";
}

/**
 * How to run the target's Node here: directly, with qemu-user, or not at all (undefined). A code cache must
 * be made by the V8 that will read it.
 */
function runnerOf(of: Target): readonly string[] | undefined {
  if (of.native) return [];
  const qemu = `/usr/bin/qemu-${of.rpm}-static`;
  return existsSync(qemu) ? [qemu] : undefined;
}

function writeBlob(folder: string, node: NodePackage, runner: readonly string[] | undefined): void {
  const config = {
    main: "main.cjs",
    output: "main.blob",
    disableExperimentalSEAWarning: true,
    useCodeCache: runner !== undefined,
    execArgv: nodeArguments,
    // The caller's NODE_OPTIONS must not reach a process that is root or holds credentials.
    execArgvExtension: "none",
  };
  writeFileSync(`${folder}/sea-config.json`, `${JSON.stringify(config, undefined, 2)}\n`);
  if (runner === undefined) {
    run(process.execPath, ["--experimental-sea-config", "sea-config.json"], { cwd: folder });
    return;
  }
  const generate = (flags: readonly string[]): Buffer => {
    const [program = "", ...rest] = [
      ...runner,
      `${node.folder}/bin/node`,
      ...flags,
      ...nodeArguments,
      "--experimental-sea-config",
      "sea-config.json",
    ];
    run(program, rest, { cwd: folder });
    return readFileSync(`${folder}/main.blob`);
  };
  writeFileSync(`${folder}/main.blob`, reproducible(generate, readFileSync(`${folder}/main.cjs`)));
}

/**
 * The layout of a V8 code cache depends on string hashes, which have a random seed in each process, so no two
 * caches are equal. With a fixed seed they are, but V8 then rejects the cache in a process without that flag:
 * the cache's header has a hash of all flags. The executable must keep its random seed (with a fixed one, a
 * client could choose colliding header names). So this combines the cache of a seeded run with the flags hash
 * of a plain one. Without --no-lazy the cache covers only the top level of the bundle, and every other
 * function is compiled at each start (30 ms).
 */
function reproducible(generate: (flags: readonly string[]) => Buffer, source: Buffer): Buffer {
  const plain = generate([]);
  const seeded = generate(["--hash-seed=1", "--no-lazy"]);
  const at = flagsHashOffset(plain, source);
  if (at !== flagsHashOffset(seeded, source)) {
    throw new Error("making the code cache: the blobs of two runs differ outside their code caches");
  }
  plain.copy(seeded, at, at, at + 4);
  return seeded;
}

/**
 * The blob consists of a header, the source, 8 bytes of length, and the code cache. The cache begins with
 * 4-byte words: magic, version, source and flags hash.
 */
function flagsHashOffset(blob: Buffer, source: Buffer): number {
  const at = blob.indexOf(source);
  if (at < 0) throw new Error("making the code cache: the blob does not contain the bundle");
  const cache = at + source.length + 8;
  // 0xC0DE is the upper half of V8's magic number for code caches.
  if (blob.readUInt16LE(cache + 2) !== 0xc0de) {
    throw new Error("making the code cache: it is not at the expected position in the blob");
  }
  return cache + 12;
}
