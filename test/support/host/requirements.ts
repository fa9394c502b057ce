import { spawnSync } from "node:child_process";
import type { Test } from "tap";

const commands = [
  "cp",
  "debootstrap",
  "flock",
  "journalctl",
  "mount",
  "nsenter",
  "setpriv",
  "systemd-nspawn",
  "unshare",
];

/** What this machine lacks to boot a test host; empty if nothing. */
export function missingRequirements(): readonly string[] {
  const missing: string[] = [];
  if (process.platform !== "linux") return [`Linux (this is ${process.platform})`];
  if (process.getuid?.() !== 0) missing.push("root");
  for (const command of commands) {
    // The PATH of a user who called sudo may lack the sbin directories.
    const env = { PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
    if (spawnSync("sh", ["-c", 'command -v "$1"', "sh", command], { env, stdio: "ignore" }).status !== 0)
      missing.push(command);
  }
  return missing;
}

/**
 * Returns false if this machine cannot boot a test host. The test is then skipped with the reason, or with
 * CI=true failed: a test that never runs in CI is worthless.
 */
export function canBoot(t: Test): boolean {
  const missing = missingRequirements();
  if (missing.length === 0) return true;
  const reason = `the test host needs ${missing.join(", ")} (packages debootstrap and systemd-container; run as root)`;
  if (process.env.CI === "true") t.fail(reason);
  else t.plan(0, `skipped: ${reason}`);
  return false;
}
