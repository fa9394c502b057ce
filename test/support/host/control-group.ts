import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync } from "node:fs";
import { join } from "node:path";

/**
 * Creates a control group for a host in every hierarchy that it uses. Otherwise the systemd instances of two
 * hosts would share a tree, and stopping a unit of one host could kill the same unit of the other.
 */
export function createControlGroup(name: string): readonly string[] {
  return hierarchies().map((hierarchy) => {
    const directory = join(hierarchy, name);
    mkdirSync(directory, { recursive: true });
    return directory;
  });
}

/** Removes the group, leaves first. Returns a message if that fails. */
export function removeControlGroup(name: string): string | undefined {
  for (const hierarchy of hierarchies()) {
    const directory = join(hierarchy, name);
    if (!existsSync(directory)) continue;
    // A group stays busy for a moment after its last process has ended.
    for (let tries = 0; !removeTree(directory); tries += 1) {
      if (tries === 50) return `removing ${directory}: a process is still in it`;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
    }
  }
  return undefined;
}

/**
 * The roots of the cgroup v2 tree and of the v1 trees that a host uses. Not cpuset: it would have to be
 * initialized first, and nothing needs it.
 */
function hierarchies(): readonly string[] {
  const mounts = readFileSync("/proc/self/mounts", "utf8").split("\n");
  const found: string[] = [];
  for (const line of mounts) {
    const [, path, type, options = ""] = line.split(" ");
    if (path === undefined || !path.startsWith("/sys/fs/cgroup")) continue;
    if (type === "cgroup2" || (type === "cgroup" && !options.split(",").includes("cpuset"))) found.push(path);
  }
  return found;
}

function removeTree(directory: string): boolean {
  try {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      if (entry.isDirectory() && !removeTree(join(directory, entry.name))) return false;
    }
    rmdirSync(directory);
    return true;
  } catch {
    return false;
  }
}
