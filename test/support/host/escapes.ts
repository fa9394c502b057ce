import { readFileSync } from "node:fs";
import { join } from "node:path";
import { property } from "./appliance.ts";
import type { TestHost } from "./host.ts";

/** Attempts to get out of a unit's sandbox: escapes.py, run with a unit's own identity and properties. */
const script = readFileSync(join(import.meta.dirname, "escapes.py"), "utf8");

export type Attempt = {
  readonly name: string;
  /** Who must succeed with it, to prove that it is a real attempt; or the reason why nobody tries it. */
  readonly proof: "root" | "user" | "released" | `none: ${string}`;
};

export type Outcome = {
  readonly name: string;
  /** `broken`: the attempt itself has a mistake. */
  readonly outcome: "succeeded" | "refused" | "broken";
  readonly detail: string;
};

/** Directives of [Service] that are about starting and stopping, and not about what the process may do. */
const aboutStarting =
  /^(Type|Exec\w+|Restart\w*|RestartPreventExitStatus|Timeout\w+|Watchdog\w+|RuntimeDirectoryPreserve)$/;

/**
 * What systemd-run needs to start a process as the unit's. Read from the unit as it is installed, drop-ins
 * included, so that it cannot drift.
 */
export async function propertiesOf(host: TestHost, unit: string): Promise<readonly string[]> {
  const { stdout } = await host.exec(["systemctl", "cat", unit]);
  return propertiesIn(stdout);
}

/** @param text of a unit file */
export function propertiesIn(text: string): readonly string[] {
  let section = "";
  const properties: string[] = [];
  for (const line of text.split("\n")) {
    section = /^\[(\w+)\]$/.exec(line)?.[1] ?? section;
    const [, directive = ""] = /^(\w+)=/.exec(line) ?? [];
    if (section === "Service" && directive !== "" && !aboutStarting.test(directive)) properties.push(line);
  }
  // The folder is the running service's: it must not go with this process.
  return [...properties, "RuntimeDirectoryPreserve=yes"].map((line) => `--property=${line}`);
}

/** Everything that is tried. */
export async function listAttempts(host: TestHost): Promise<readonly Attempt[]> {
  const { stdout } = await host.exec(["python3", "-", "--list"], { stdin: script });
  return JSON.parse(stdout) as Attempt[]; // escapes.py wrote it
}

/** A process of root to attack, and what there is to find on the host. */
export async function setUpVictims(host: TestHost): Promise<Readonly<Record<string, string>>> {
  const secret = "secret-of-the-victim";
  await host.exec(`set -e
systemd-run --quiet --unit=escape-victim --setenv=SECRET_OF_VICTIM=${secret} sleep infinity
install --mode=4755 /usr/bin/id /usr/local/bin/escape-suid
mkdir -p /run/escape-control /run/xtables /root/.ssh /etc/cron.d /etc/docker /etc/profile.d /etc/udev/rules.d
mkdir -p /etc/sudoers.d /run/systemd/system /var/lib/systemd /var/spool /usr/lib/systemd/system-generators
echo secret >/root/secret
touch /etc/ld.so.preload
chown nobody /run/escape-control`);
  return { VICTIM: await property(host, "escape-victim.service", "MainPID"), SECRET_TEXT: secret };
}

/** Makes every attempt as a process with these properties of systemd-run; by name. */
export async function attemptAll(
  host: TestHost,
  properties: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<ReadonlyMap<string, Outcome>> {
  const variables = Object.entries(environment).map(([name, value]) => `--setenv=${name}=${value}`);
  const command = ["systemd-run", "--quiet", "--collect", "--wait", "--pipe", ...properties, ...variables];
  const { stdout } = await host.exec([...command, "/usr/bin/python3", "-"], {
    stdin: script,
    timeoutMs: 300_000,
  });
  const outcomes = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Outcome); // escapes.py wrote it
  return new Map(outcomes.map((outcome) => [outcome.name, outcome]));
}
