import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { removeControlGroup } from "./control-group.ts";
import { identify, isAlive, type ProcessIdentity, signal } from "./process-identity.ts";

/** What one host leaves on the machine while it runs; enough to remove it when its owner was killed. */
export type RunRecord = {
  readonly owner: ProcessIdentity;
  /** systemd-nspawn and the host's PID 1, while it is up. */
  readonly processes: readonly ProcessIdentity[];
};

const recordFile = "record.json";

export function runsDirectory(): string {
  return join(tmpdir(), "ec2metaproxy-testhost");
}

/** The folder of one run: the host's own layer over the shared root, its engines' storage, its console. */
export function createRunDirectory(name: string): string {
  const directory = join(runsDirectory(), name);
  mkdirSync(runsDirectory(), { recursive: true });
  // Not recursive: a second host of the same name is an error.
  mkdirSync(directory);
  for (const part of ["upper", "work", "root", "docker", "containerd", "containers"])
    mkdirSync(join(directory, part));
  writeRecord(directory, []);
  return directory;
}

export function writeRecord(directory: string, processes: readonly ProcessIdentity[]): void {
  const owner = identify(process.pid);
  if (owner === undefined) throw new Error("reading /proc/self/stat: no start time");
  const record: RunRecord = { owner, processes };
  writeFileSync(join(directory, recordFile), JSON.stringify(record));
}

/**
 * Ends the recorded processes and removes the folder and all mounts in it. Synchronous, since it also runs while the process exits.
 * Does all it can, then reports what failed.
 */
export function removeRunDirectory(directory: string): readonly string[] {
  const failures: string[] = [];
  for (const recorded of readRecord(directory)?.processes ?? []) {
    signal(recorded, "SIGKILL");
    if (!endsWithin(recorded, 5_000)) failures.push(`ending ${recorded.pid}: still there after 5 s`);
  }
  const root = join(directory, "root");
  // Nothing is below the root in this machine's mount namespace: all other mounts ended with the host's own namespace.
  for (let tries = 0; isMountPoint(root); tries += 1) {
    const { status, stderr } = spawnSync("umount", tries < 5 ? [root] : ["--lazy", root], {
      timeout: 10_000,
      encoding: "utf8",
    });
    if (status === 0) continue;
    if (tries >= 5) {
      // Removing files through a mount would be worse than leaving them.
      return [...failures, `unmounting ${root}: ${stderr.trim()}`];
    }
    sleep(100);
  }
  const failure = removeControlGroup(controlGroupName(directory));
  if (failure !== undefined) failures.push(failure);
  try {
    rmSync(directory, { recursive: true, force: true, maxRetries: 3, retryDelay: 100 });
  } catch (error) {
    failures.push(`removing ${directory}: ${error instanceof Error ? error.message : String(error)}`);
  }
  return failures;
}

/** Removes what hosts left whose owner was killed before it could. */
export function removeLeftovers(): void {
  for (const name of listDirectory(runsDirectory())) {
    const directory = join(runsDirectory(), name);
    const record = readRecord(directory);
    if (record !== undefined && !isAlive(record.owner)) removeRunDirectory(directory);
  }
}

export function controlGroupName(directory: string): string {
  return `ec2metaproxy-testhost-${directory.slice(directory.lastIndexOf("/") + 1)}`;
}

function readRecord(directory: string): RunRecord | undefined {
  try {
    // Written by writeRecord, by nobody else.
    return JSON.parse(readFileSync(join(directory, recordFile), "utf8")) as RunRecord;
  } catch {
    return undefined;
  }
}

function listDirectory(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

function isMountPoint(path: string): boolean {
  return readFileSync("/proc/self/mounts", "utf8").includes(` ${path} `);
}

function endsWithin(ending: ProcessIdentity, limitMs: number): boolean {
  for (const end = Date.now() + limitMs; isAlive(ending); sleep(20)) {
    if (Date.now() > end) return false;
  }
  return true;
}

function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
