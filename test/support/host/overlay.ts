import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

/**
 * Creates a root file system at DIRECTORY/root: an overlay over `base`, which stays unchanged. That takes no
 * time and little disk. Where the kernel refuses (an overlay over an overlay), it is a copy, which takes
 * seconds.
 */
export function layRoot(base: string, directory: string): void {
  const root = join(directory, "root");
  const layers = `lowerdir=${base},upperdir=${join(directory, "upper")},workdir=${join(directory, "work")}`;
  if (!run("mount", "-t", "overlay", "-o", layers, "overlay", root)) {
    if (!run("cp", "-a", "-T", "--reflink=auto", base, root))
      throw new Error(`copying ${base} to ${root}: failed`);
  }
  // Written before the first boot. Without it systemd would assume a new installation and enable units by
  // preset.
  writeFileSync(join(root, "etc/machine-id"), `${randomBytes(16).toString("hex")}\n`);
}

function run(...[file, ...args]: [string, ...string[]]): boolean {
  return spawnSync(file, args, { stdio: "ignore", timeout: 120_000 }).status === 0;
}
