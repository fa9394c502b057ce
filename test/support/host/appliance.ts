import { stsUrl } from "./aws.ts";
import type { TestHost } from "./host.ts";

/** The package's units that `systemctl enable --now ec2metaproxy` starts. */
export const units = [
  "ec2metaproxy.service",
  "ec2metaproxy.socket",
  "ec2metaproxy-guard.service",
  "ec2metaproxy-firewall.service",
  "ec2metaproxy-firewall.timer",
  "ec2metaproxy-firewall-repair.path",
] as const;

export const configPath = "/etc/ec2metaproxy/config.json";

/** Installs a DEB from this machine as an operator would. */
export async function installDeb(host: TestHost, deb: string): Promise<string> {
  await host.copyIn(deb, "/root/ec2metaproxy.deb");
  // There is no terminal to ask on: the operator's edited files are kept.
  const command = "apt-get install -y /root/ec2metaproxy.deb";
  const { stdout, stderr } = await host.exec(command, {
    env: { DEBIAN_FRONTEND: "noninteractive" },
    timeoutMs: 120_000,
  });
  return stdout + stderr;
}

/** Sets the endpoint of the stand-in's STS, as an operator behind a proxy or outside EC2 would. */
export async function pointAtSts(host: TestHost): Promise<void> {
  await host.write("/etc/ec2metaproxy/environment", `AWS_ENDPOINT_URL_STS=${stsUrl}\n`, "0600");
}

export async function writeConfig(host: TestHost, config: object): Promise<void> {
  await host.write(configPath, `${JSON.stringify(config, undefined, 2)}\n`);
}

/** One property of a unit. */
export async function property(host: TestHost, unit: string, name: string): Promise<string> {
  const { stdout } = await host.exec(["systemctl", "show", "--value", `--property=${name}`, unit]);
  return stdout.trim();
}

/**
 * The state of every unit, such as `active enabled`. Waits for a pending reload of the firewall unit, which
 * each start of the service triggers, and for a guard that is restarted because its configuration is older.
 */
export async function states(host: TestHost): Promise<Readonly<Record<string, string>>> {
  for (const unit of ["ec2metaproxy-firewall.service", "ec2metaproxy-guard.service"])
    await host.waitFor(async () => /^0?$/.test(await property(host, unit, "Job")), {
      timeoutMs: 15_000,
      what: `the job of ${unit} to be done`,
    });
  const state = async (unit: string) => {
    const active = await host.exec(["systemctl", "is-active", unit], { check: false });
    const enabled = await host.exec(["systemctl", "is-enabled", unit], { check: false });
    return `${active.stdout.trim()} ${enabled.stdout.trim() || "not-found"}`;
  };
  return Object.fromEntries(await Promise.all(units.map(async (unit) => [unit, await state(unit)])));
}

export const allRunning = Object.fromEntries(units.map((unit) => [unit, "active enabled"]));
export const allOff = Object.fromEntries(units.map((unit) => [unit, "inactive disabled"]));

/** Milliseconds that the last start took, from leaving the inactive state to READY=1. */
export async function startTimeMs(host: TestHost): Promise<number> {
  const [started, ready] = await Promise.all([
    property(host, "ec2metaproxy.service", "InactiveExitTimestampMonotonic"),
    property(host, "ec2metaproxy.service", "ActiveEnterTimestampMonotonic"),
  ]);
  return (Number(ready) - Number(started)) / 1000;
}

/** Anonymous memory of the service's process, in MB. */
export async function anonymousMemoryMb(host: TestHost): Promise<number> {
  const pid = await property(host, "ec2metaproxy.service", "MainPID");
  const [, kb] = /^RssAnon:\s+(\d+) kB$/m.exec(await host.read(`/proc/${pid}/status`)) ?? [];
  return Number(kb) / 1024;
}

/** Requests credentials by IMDSv2. Prints the JSON document and exits with 0, or exits with curl's code. */
export const askForCredentials = `set -e
T=$(curl -sf -m 3 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 600' http://169.254.169.254/latest/api/token)
R=$(curl -sf -m 3 -H "X-aws-ec2-metadata-token: $T" http://169.254.169.254/latest/meta-data/iam/security-credentials/)
curl -sf -m 3 -H "X-aws-ec2-metadata-token: $T" http://169.254.169.254/latest/meta-data/iam/security-credentials/$R`;
