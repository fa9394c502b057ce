import { stsUrl } from "./aws.ts";
import type { TestHost } from "./host.ts";

/** The units that the package brings; `systemctl enable --now ec2metaproxy` starts the first four. */
export const units = [
  "ec2metaproxy.service",
  "ec2metaproxy.socket",
  "ec2metaproxy-firewall.service",
  "ec2metaproxy-firewall.timer",
] as const;

export const configPath = "/etc/ec2metaproxy/config.json";

/** Installs a DEB of this machine as an operator does. */
export async function installDeb(host: TestHost, deb: string): Promise<string> {
  await host.copyIn(deb, "/root/ec2metaproxy.deb");
  // Without a terminal, but as an operator who keeps what he edited.
  const command = "apt-get install -y /root/ec2metaproxy.deb";
  const { stdout, stderr } = await host.exec(command, {
    env: { DEBIAN_FRONTEND: "noninteractive" },
    timeoutMs: 120_000,
  });
  return stdout + stderr;
}

/** The stand-in's STS, as an operator behind a proxy or outside EC2 would set it. */
export async function pointAtSts(host: TestHost): Promise<void> {
  await host.write("/etc/ec2metaproxy/environment", `AWS_ENDPOINT_URL_STS=${stsUrl}\n`, "0600");
}

export async function writeConfig(host: TestHost, config: object): Promise<void> {
  await host.write(configPath, `${JSON.stringify(config, undefined, 2)}\n`);
}

/** One property of a unit, as systemd has it. */
export async function property(host: TestHost, unit: string, name: string): Promise<string> {
  const { stdout } = await host.exec(["systemctl", "show", "--value", `--property=${name}`, unit]);
  return stdout.trim();
}

/** `unit -> active/enabled` of every unit, so that a difference is readable; when no reload is under way, as each start of the service asks for one. */
export async function states(host: TestHost): Promise<Readonly<Record<string, string>>> {
  await host.waitFor(
    async () => (await property(host, "ec2metaproxy-firewall.service", "ActiveState")) !== "reloading",
    { timeoutMs: 15_000, what: "the firewall unit to have reloaded" },
  );
  const state = async (unit: string) => {
    const active = await host.exec(["systemctl", "is-active", unit], { check: false });
    const enabled = await host.exec(["systemctl", "is-enabled", unit], { check: false });
    return `${active.stdout.trim()} ${enabled.stdout.trim() || "not-found"}`;
  };
  return Object.fromEntries(await Promise.all(units.map(async (unit) => [unit, await state(unit)])));
}

export const allRunning = Object.fromEntries(units.map((unit) => [unit, "active enabled"]));
export const allOff = Object.fromEntries(units.map((unit) => [unit, "inactive disabled"]));

/** How long the last start took: from the unit's leaving inactive to READY=1, in ms. */
export async function startTimeMs(host: TestHost): Promise<number> {
  const [begun, ready] = await Promise.all([
    property(host, "ec2metaproxy.service", "InactiveExitTimestampMonotonic"),
    property(host, "ec2metaproxy.service", "ActiveEnterTimestampMonotonic"),
  ]);
  return (Number(ready) - Number(begun)) / 1000;
}

/** Anonymous memory of the service's process in MB. */
export async function anonymousMemoryMb(host: TestHost): Promise<number> {
  const pid = await property(host, "ec2metaproxy.service", "MainPID");
  const [, kb] = /^RssAnon:\s+(\d+) kB$/m.exec(await host.read(`/proc/${pid}/status`)) ?? [];
  return Number(kb) / 1024;
}

/** The answer to an IMDSv2 request for credentials in a container's network; exit code 0 with the JSON document, else curl's. */
export const askForCredentials = `set -e
T=$(curl -sf -m 3 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 600' http://169.254.169.254/latest/api/token)
R=$(curl -sf -m 3 -H "X-aws-ec2-metadata-token: $T" http://169.254.169.254/latest/meta-data/iam/security-credentials/)
curl -sf -m 3 -H "X-aws-ec2-metadata-token: $T" http://169.254.169.254/latest/meta-data/iam/security-credentials/$R`;
