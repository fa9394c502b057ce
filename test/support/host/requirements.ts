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

/** What this machine lacks to boot a test host, in words; empty when it can. */
export function missingRequirements(): readonly string[] {
  const missing: string[] = [];
  if (process.platform !== "linux") return [`Linux (this is ${process.platform})`];
  if (process.getuid?.() !== 0) missing.push("root");
  for (const command of commands) {
    // Root's own commands may not be on the path of whoever called sudo.
    const env = { PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
    if (spawnSync("sh", ["-c", 'command -v "$1"', "sh", command], { env, stdio: "ignore" }).status !== 0)
      missing.push(command);
  }
  return missing;
}

/**
 * `false`: this machine cannot boot a test host, and the test has been skipped with a line that says why. Under CI=true it has failed
 * instead: a test that never runs there protects nobody.
 */
export function canBoot(t: Test): boolean {
  const missing = missingRequirements();
  if (missing.length === 0) return true;
  const reason = `the test host needs ${missing.join(", ")} (packages debootstrap and systemd-container; run as root)`;
  if (process.env.CI === "true") t.fail(reason);
  else t.plan(0, `skipped: ${reason}`);
  return false;
}
