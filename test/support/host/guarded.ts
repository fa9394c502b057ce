import type { Test } from "tap";
import { configPath, installDeb, pointAtSts, property, writeConfig } from "./appliance.ts";
import { type AwsSide, startAws } from "./aws.ts";
import { bootFor } from "./boot.ts";
import { builtPackages } from "./built-packages.ts";
import type { CommandResult } from "./command.ts";
import { type ContainerOptions, containerEngine, type Engine } from "./engine.ts";
import type { TestHost } from "./host.ts";
import type { Suite } from "./root.ts";

export const guardUnit = "ec2metaproxy-guard.service";
export const proxyUnit = "ec2metaproxy.service";
export const guardSocket = "/run/ec2metaproxy-guard/containers.sock";

const account = "123456789012";
export const roleArn = (name: string) => `arn:aws:iam::${account}:role/containers/${name}`;

/** A container may have any role, which is then named like the container. */
export const config = (identityProof: "address" | "socket") => ({
  allowRoleArns: [roleArn("*")],
  dockerHosts: ["unix:///run/docker.sock", "unix:///run/podman/podman.sock"],
  identityProof,
  // busybox's wget cannot send a PUT.
  httpTokens: "optional",
});

export type GuardedHost = {
  readonly host: TestHost;
  readonly aws: AwsSide;
  readonly docker: Engine;
  readonly podman: Engine;
};

/** A host with the package installed and running, both engines, and the lock as the proof of identity. */
export async function guardedHost(t: Test, suite: Suite): Promise<GuardedHost> {
  const host = await bootFor(t, { suite });
  const aws = await startAws(host);
  const docker = await containerEngine(host, "docker");
  const podman = await containerEngine(host, "podman");
  await installDeb(host, builtPackages().deb);
  await pointAtSts(host);
  await writeConfig(host, config("address"));
  await host.exec("systemctl enable --now ec2metaproxy");
  return { host, aws, docker, podman };
}

/** Starts a container with a role of its own name. */
export const start = (engine: Engine, name: string, more: Omit<ContainerOptions, "name"> = {}) =>
  engine.run({ name, ...more, env: { IAM_ROLE: roleArn(name) } });

/** Changes the proof, as an operator would. Resolves when the proxy has taken it over. */
export async function proveBy(host: TestHost, identityProof: "address" | "socket"): Promise<void> {
  await writeConfig(host, config(identityProof));
  await host.exec("systemctl reload ec2metaproxy");
  await host.waitFor(async () => (await status(host)).identityProof === identityProof, {
    what: `${configPath} to be read again`,
  });
}

/** As far as the tests need it. */
export type Status = {
  readonly healthy: boolean;
  readonly summary: string;
  readonly identityProof: string;
  readonly guard?: { readonly connected: boolean; readonly lastError?: string };
  readonly containers: readonly {
    readonly name: string;
    readonly addresses: readonly string[];
    readonly protection?: { readonly locked: boolean; readonly reason: string };
  }[];
};

export async function status(host: TestHost): Promise<Status> {
  const { stdout } = await host.exec("ec2metaproxy status --json", { check: false });
  return JSON.parse(stdout) as Status; // the program under test prints it
}

/** Whether the lock is in force for the container; why not. */
export async function lockOf(host: TestHost, container: string): Promise<string> {
  const found = (await status(host)).containers.find(({ name }) => name === container);
  if (found === undefined) return "not known";
  return found.protection?.locked === true ? "locked" : (found.protection?.reason ?? "nothing to lock");
}

export async function whenLocked(host: TestHost, container: string): Promise<void> {
  await host.waitFor(async () => (await lockOf(host, container)) === "locked", {
    what: `${container} to be locked`,
  });
}

export type Answer = { readonly token: string; readonly status: string; readonly body: string };

const credentials = "http://169.254.169.254/latest/meta-data/iam/security-credentials/";

/**
 * Requests a token, and with it the container's role. Does not try again.
 * @param interfaceOrAddress where the requests leave from; default: the route's
 */
export async function ask(engine: Engine, container: string, interfaceOrAddress = ""): Promise<Answer> {
  const curl = `curl -s -m 10 ${interfaceOrAddress === "" ? "" : `--interface ${interfaceOrAddress}`}`;
  return answerOf(await engine.inNetwork(container, requests(curl, container), { check: false }));
}

/** A script of requests for a container's role, for `answerOf`. */
export const requests = (curl: string, role: string) =>
  `T=$(${curl} -D - -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token | tr -d '\\r')
echo "$T" | sed -n 's/^HTTP[^ ]* \\([0-9]*\\).*/\\1/p'
${curl} -w '\\n%{http_code}\\n' -H "X-aws-ec2-metadata-token: $(echo "$T" | tail -n 1)" ${credentials}${role}`;

export function answerOf({ stdout }: CommandResult): Answer {
  const [token = "", ...rest] = stdout.trimEnd().split("\n");
  return { token, status: rest.at(-1) ?? "", body: rest.slice(0, -1).join("\n") };
}

/** A client that tries again, as SDKs do. Resolves with the seconds until it was served. */
export async function whenServed(host: TestHost, engine: Engine, container: string): Promise<number> {
  const startedAt = performance.now();
  await host.waitFor(async () => (await ask(engine, container)).body.includes('"AccessKeyId"'), {
    timeoutMs: 60_000,
    what: `${container} to be served`,
  });
  return (performance.now() - startedAt) / 1_000;
}

/** The CPU time that a unit has used since its start, in ms. Its children are included. */
export async function cpuMs(host: TestHost, unit: string): Promise<number> {
  return Number(await property(host, unit, "CPUUsageNSec")) / 1e6;
}

/** Proportional memory of a unit's processes, in MB. */
export async function pssMb(host: TestHost, unit: string): Promise<number> {
  const group = await property(host, unit, "ControlGroup");
  const { stdout } = await host.exec(
    `for pid in $(cat /sys/fs/cgroup${group}/cgroup.procs); do grep ^Pss: /proc/$pid/smaps_rollup; done`,
  );
  const kilobytes = [...stdout.matchAll(/^Pss:\s+(\d+) kB$/gm)].map(([, kb]) => Number(kb));
  return kilobytes.reduce((sum, kb) => sum + kb, 0) / 1024;
}
