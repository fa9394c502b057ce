import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

/**
 * Makes DIRECTORY/root a root file system of its own: `base`, which stays as it is, under a layer that takes all changes. That takes
 * no time and little disk; where the kernel refuses (an overlay on an overlay), a copy takes some seconds and does the same.
 */
export function layRoot(base: string, directory: string): void {
  const root = join(directory, "root");
  const layers = `lowerdir=${base},upperdir=${join(directory, "upper")},workdir=${join(directory, "work")}`;
  if (!run("mount", "-t", "overlay", "-o", layers, "overlay", root)) {
    if (!run("cp", "-a", "-T", "--reflink=auto", base, root))
      throw new Error(`copying ${base} to ${root}: failed`);
  }
  // Written before the first boot: a root without it would be taken for a new installation, which enables units by preset.
  writeFileSync(join(root, "etc/machine-id"), `${randomBytes(16).toString("hex")}\n`);
}

function run(...[file, ...args]: [string, ...string[]]): boolean {
  return spawnSync(file, args, { stdio: "ignore", timeout: 120_000 }).status === 0;
}
