import { statfs } from "node:fs/promises";
import { isSea } from "node:sea";
import type { Config } from "../config/schema.ts";
import { explain, OperatorError } from "../errors.ts";
import type { Run } from "../firewall/command.ts";
import { type Listener, listenersOf, notTheProxy } from "../firewall/listeners.ts";
import { portsOf } from "../firewall/ports.ts";
import { notifier } from "../systemd/notify.ts";
import type { Unit } from "../systemd/unit-states.ts";
import type { Finding } from "./finding.ts";
import type { Services } from "./services.ts";
import { unitFindings } from "./unit-findings.ts";

/** What this host must have for the service to run, apart from its configuration. */
export type ServiceChecks = {
  readonly run: Run;
  readonly isRoot: boolean;
  readonly isProxy: (pid: number) => Promise<boolean>;
  /** What is free in a file system. */
  readonly space?: (path: string) => Promise<Space>;
};

type Space = { readonly bytes: number; readonly files: number | undefined };

/** A key file, a socket, and the guard's list of a busy host. */
const neededBytes = 256 * 1024;
const neededFiles = 32;

/** The units, their port, their files. Empty on a host where nothing is installed. */
export async function serviceFindings(
  services: Services,
  config: Config,
  configPath: string,
  checks: ServiceChecks,
): Promise<readonly Finding[]> {
  const { units, unknownBecause, unreadable } = services;
  if (units.length === 0)
    return [
      {
        subject: "unit",
        ok: undefined,
        text: `no unit was checked: ${unknownBecause ?? "the packages are not installed"}`,
        hint: "",
      },
      ...(await portFindings(units, config, checks)),
    ];
  const proxy = units.find(({ name }) => name === "ec2metaproxy.service");
  return [
    ...unitFindings(units),
    ...unreadable.map(
      (text): Finding => ({
        subject: "environment",
        ok: undefined,
        text: `${text}; STS is checked with the variables of this shell instead`,
        hint: "Run it as root.",
      }),
    ),
    ...(await portFindings(units, config, checks)),
    ...(await readableFinding(proxy, configPath, checks)),
    ...(await spaceFindings(checks)),
    ...addonFinding(),
  ];
}

/** Whether the proxy can be, and is, at the port to which the rules redirect. */
async function portFindings(
  units: readonly Unit[],
  config: Config,
  { run, isRoot, isProxy }: ServiceChecks,
): Promise<readonly Finding[]> {
  const { proxy: port } = portsOf(config);
  const findings: Finding[] = [];
  const socket = units.find(({ name }) => name === "ec2metaproxy.socket");
  const ports = socket?.ports ?? [];
  if (ports.length > 0 && !ports.includes(port))
    findings.push({
      subject: "port",
      ok: false,
      text: `"listen" in config.json says port ${port}, and ec2metaproxy.socket listens on ${ports.join(", ")}: the service exits with 78, and the rules lead to a port where nobody is`,
      hint: `Make them agree: "listen": ":${ports[0]}" in config.json, or ListenStream=${port} in a drop-in (systemctl edit ec2metaproxy.socket), before \`ec2metaproxy firewall apply\`.`,
    });
  if (ports.length > 1)
    findings.push({
      subject: "port",
      ok: false,
      text: `ec2metaproxy.socket listens on ${ports.length} ports (${ports.join(", ")}), and the service takes one`,
      hint: "Keep one ListenStream=; an empty ListenStream= before yours removes the packaged one.",
    });
  const listeners = await listenersOf(run, port);
  const others = await notTheProxy(isProxy, listeners.processes);
  if (others.length > 0)
    findings.push({
      subject: "port",
      ok: false,
      text: `another program has port ${port}: ${others.map(named).join(", ")}`,
      hint: `End it, or give the proxy another port: "listen" in config.json and ListenStream= of ec2metaproxy.socket.`,
    });
  else if (units.length > 0 && listeners.kind === "nobody" && ports.includes(port))
    findings.push({
      subject: "port",
      ok: false,
      text: `nobody listens on port ${port}: containers get no answer`,
      hint: "Run: systemctl start ec2metaproxy",
    });
  else if (listeners.kind === "somebody" && listeners.processes.length === 0)
    findings.push({
      subject: "port",
      ok: undefined,
      text: `somebody listens on port ${port}, and this user cannot see who`,
      hint: isRoot ? "" : "Run it as root.",
    });
  return findings;
}

function named({ name, pid }: Listener): string {
  return `${name} (pid ${pid})`;
}

/** Root may read every file; the service's user may not. */
async function readableFinding(
  proxy: Unit | undefined,
  configPath: string,
  { run, isRoot }: ServiceChecks,
): Promise<readonly Finding[]> {
  if (!isRoot || proxy === undefined || proxy.user === "" || proxy.configPath === undefined) return [];
  const findings: Finding[] = [];
  if (proxy.configPath !== configPath)
    findings.push({
      subject: "configuration",
      ok: undefined,
      text: `the service reads ${proxy.configPath}, not this file`,
      hint: "",
    });
  const user = proxy.user;
  const group = proxy.group === "" ? await groupOf(run, user) : proxy.group;
  const asUser = [`--reuid=${user}`, `--regid=${group}`, "--init-groups", "--"];
  const outcome = await run("setpriv", [...asUser, "test", "-r", proxy.configPath]);
  if (outcome.kind === "missing" || outcome.exitCode === 0) return findings;
  const isUserMissing = /^setpriv: /m.test(outcome.stderr);
  findings.push({
    subject: "configuration",
    ok: false,
    text: isUserMissing
      ? `the service's user ${user} cannot be used: ${outcome.stderr.trim()}`
      : `the service's user ${user} may not read ${proxy.configPath}`,
    hint: isUserMissing
      ? "Run: systemd-sysusers ec2metaproxy.conf"
      : `Run: chown root:${user} ${proxy.configPath} && chmod 0640 ${proxy.configPath}  (and let everybody enter its folder)`,
  });
  return findings;
}

/** systemd's choice where a unit names no group: the user's own. */
async function groupOf(run: Run, user: string): Promise<string> {
  const outcome = await run("id", ["-g", "--", user]);
  return outcome.kind === "ran" && outcome.exitCode === 0 ? outcome.stdout.trim() : user;
}

async function spaceFindings({ space = spaceOf }: ServiceChecks): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const [path, ok, means] of [
    ["/run", false, "the proxy and the guard cannot make their sockets, and do not start again"],
    ["/var/lib", undefined, "the guard cannot remember the bridges that engines name"],
  ] as const) {
    try {
      const { bytes, files } = await space(path);
      if (bytes >= neededBytes && (files === undefined || files >= neededFiles)) continue;
      const left = bytes < neededBytes ? `${bytes} bytes` : `${files} files`;
      findings.push({
        subject: "space",
        ok,
        text: `${path} is full (${left} left): ${means}`,
        hint: `Free some: du -xah ${path} | sort -h | tail`,
      });
    } catch (error) {
      findings.push({ subject: "space", ok: undefined, text: explain(error), hint: "" });
    }
  }
  return findings;
}

async function spaceOf(path: string): Promise<Space> {
  const { bavail, bsize, files, ffree } = await statfs(path);
  // A file system without a limit of files says 0.
  return { bytes: bavail * bsize, files: files === 0 ? undefined : ffree };
}

/** The service cannot tell systemd that it is ready without the addon, and is killed. */
function addonFinding(): readonly Finding[] {
  if (!isSea()) return [];
  try {
    notifier({ notifySocket: "" });
    return [];
  } catch (error) {
    const hint = error instanceof OperatorError ? error.hint : "";
    return [{ subject: "unit", ok: false, text: explain(error), hint }];
  }
}
