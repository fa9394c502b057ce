import { type ChildProcess, spawn } from "node:child_process";
import { openSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { identify, type ProcessIdentity } from "./process-identity.ts";

export type Bind = { readonly source: string; readonly target: string; readonly readOnly: boolean };

export type NspawnSettings = {
  readonly root: string;
  readonly machine: string;
  /** Directories of the control groups to start in. */
  readonly controlGroups: readonly string[];
  readonly unifiedControlGroups: boolean;
  readonly binds: readonly Bind[];
  /** File for the host's console output. */
  readonly console: string;
};

export type BootedSystem = {
  readonly nspawn: ChildProcess;
  /** The host's PID 1, by its pid on this machine. */
  readonly init: ProcessIdentity;
};

/**
 * Starts systemd as PID 1 in a network namespace of its own. Resolves when it runs, long before the boot is
 * complete.
 */
export async function startNspawn(settings: NspawnSettings): Promise<BootedSystem> {
  const console = openSync(settings.console, "a");
  const nspawn = spawn(
    "sh",
    [
      "-c",
      'for group in $GROUPS_TO_JOIN; do echo $$ >"$group/cgroup.procs"; done; exec "$@"',
      "sh",
      ...nspawnCommand(settings),
    ],
    {
      stdio: ["ignore", console, console],
      detached: true,
      env: {
        PATH: process.env.PATH,
        GROUPS_TO_JOIN: settings.controlGroups.join(" "),
        SYSTEMD_NSPAWN_API_VFS_WRITABLE: "1",
        SYSTEMD_NSPAWN_UNIFIED_HIERARCHY: settings.unifiedControlGroups ? "1" : "0",
      },
    },
  );
  let failure: Error | undefined;
  nspawn.once("error", (error) => {
    failure = error;
  });
  for (const end = Date.now() + 15_000; Date.now() < end; await delay(10)) {
    if (
      failure !== undefined ||
      nspawn.exitCode !== null ||
      nspawn.signalCode !== null ||
      nspawn.pid === undefined
    )
      break;
    const init = findInit(nspawn.pid);
    if (init !== undefined) return { nspawn, init };
  }
  nspawn.kill("SIGKILL");
  throw new Error(
    `starting systemd-nspawn: ${failure?.message ?? readFileSync(settings.console, "utf8").slice(-2_000)}`,
  );
}

function nspawnCommand(settings: NspawnSettings): readonly string[] {
  return [
    // The host must end with the test process, even if that is killed.
    "setpriv",
    "--pdeathsig=KILL",
    "systemd-nspawn",
    `--directory=${settings.root}`,
    `--machine=${settings.machine}`,
    "--boot",
    "--quiet",
    "--register=no",
    "--keep-unit",
    "--private-network",
    "--console=pipe",
    "--link-journal=no",
    "--resolv-conf=off",
    "--timezone=off",
    "--capability=all",
    "--system-call-filter=@keyring bpf",
    ...settings.binds.map(
      ({ source, target, readOnly }) =>
        `--bind${readOnly ? "-ro" : ""}=${escaped(source)}:${escaped(target)}`,
    ),
  ];
}

function escaped(path: string): string {
  return path.replaceAll(/[\\:]/g, "\\$&");
}

/** nspawn's child that is PID 1 in its own namespace and runs systemd. */
function findInit(nspawn: number): ProcessIdentity | undefined {
  try {
    for (const child of readFileSync(`/proc/${nspawn}/task/${nspawn}/children`, "utf8").trim().split(" ")) {
      const status = readFileSync(`/proc/${child}/status`, "utf8");
      if (/^Name:\tsystemd$/m.test(status) && /^NSpid:.*\t1$/m.test(status)) return identify(Number(child));
    }
  } catch {
    // Not there yet.
  }
  return undefined;
}
