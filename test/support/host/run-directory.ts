import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { removeControlGroup } from "./control-group.ts";
import { identify, isAlive, type ProcessIdentity, signal } from "./process-identity.ts";

/** What it takes to remove a host whose owner was killed. */
export type RunRecord = {
  readonly owner: ProcessIdentity;
  /** systemd-nspawn and the host's PID 1, while the host is up. */
  readonly processes: readonly ProcessIdentity[];
};

const recordFile = "record.json";

export function runsDirectory(): string {
  return join(tmpdir(), "ec2metaproxy-testhost");
}

/**
 * Creates the folder of one run: the host's layer over the shared root, the engines' storage, the console
 * output.
 */
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
 * Kills the recorded processes and removes the folder and all mounts in it. Synchronous, because it also runs
 * while this process exits. Does as much as possible, then returns what failed.
 */
export function removeRunDirectory(directory: string): readonly string[] {
  const failures: string[] = [];
  for (const recorded of readRecord(directory)?.processes ?? []) {
    signal(recorded, "SIGKILL");
    if (!endsWithin(recorded, 5_000)) failures.push(`ending ${recorded.pid}: still there after 5 s`);
  }
  const root = join(directory, "root");
  // In this machine's mount namespace nothing is mounted below the root: the other mounts ended with the
  // host's namespace.
  for (let tries = 0; isMountPoint(root); tries += 1) {
    const { status, stderr } = spawnSync("umount", tries < 5 ? [root] : ["--lazy", root], {
      timeout: 10_000,
      encoding: "utf8",
    });
    if (status === 0) continue;
    if (tries >= 5) {
      // Never remove files through a mount: rather leave the folder.
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

/** Removes the hosts whose owners were killed. */
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
    // Only writeRecord writes this file.
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
