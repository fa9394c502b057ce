import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { run } from "./run.ts";
import type { Target } from "./target.ts";

/** Node for a target: the folder with `bin/node` and `include/node`. */
export type NodePackage = {
  readonly folder: string;
  readonly version: string;
  /** Integrity of the npm package's archive, as in package-lock.json: `sha512-` and base64. */
  readonly integrity: string;
};

/**
 * The npm package with Node for the target, in the version and with the integrity of package-lock.json. npm
 * installs only the package for this machine (`cpu` field), so another one is downloaded to `cache`.
 */
export function nodePackage(root: string, cache: string, of: Target): NodePackage {
  const name = `node-linux-${of.arch}`;
  const locked = lockedPackage(root, name);
  if (of.native) return { folder: `${root}/node_modules/${name}`, ...locked };

  const folder = `${cache}/${name}-${locked.version}`;
  if (!existsSync(`${folder}/bin/node`)) {
    mkdirSync(cache, { recursive: true });
    run("npm", ["pack", `${name}@${locked.version}`, "--pack-destination", cache, "--loglevel=error"], {
      cwd: root,
    });
    const archive = `${folder}.tgz`;
    const integrity = `sha512-${createHash("sha512").update(readFileSync(archive)).digest("base64")}`;
    if (integrity !== locked.integrity) {
      rmSync(archive);
      throw new Error(
        `fetching ${name}@${locked.version}: its integrity is ${integrity}, package-lock.json says ${locked.integrity}`,
      );
    }
    mkdirSync(folder);
    run("tar", ["-xzf", archive, "-C", folder, "--strip-components=1"]);
    rmSync(archive);
  }
  return { folder, ...locked };
}

type Locked = { readonly version: string; readonly integrity: string };

function lockedPackage(root: string, name: string): Locked {
  const lock = JSON.parse(readFileSync(`${root}/package-lock.json`, "utf8")) as {
    packages: Record<string, Locked>;
  }; // npm's own file, lockfileVersion 3
  const entry = lock.packages[`node_modules/${name}`];
  if (entry === undefined) throw new Error(`reading package-lock.json: no package ${name}`);
  return { version: entry.version, integrity: entry.integrity };
}
