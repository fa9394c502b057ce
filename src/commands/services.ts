import { readFile } from "node:fs/promises";
import { type Environment, readEnvironment } from "../config/load.ts";
import { explain } from "../errors.ts";
import { type Run, run as runCommand, whyNot } from "../firewall/command.ts";
import { parseAssignments, parseEnvironmentFile, type Variables } from "../systemd/unit-environment.ts";
import { packagedUnits, parseUnits, type Unit, unitProperties } from "../systemd/unit-states.ts";

/** The packaged services of this host, as systemd sees them. */
export type Services = {
  /** Empty if none is installed, or if systemd cannot be asked. */
  readonly units: readonly Unit[];
  /** Why systemd cannot be asked; undefined if it was. */
  readonly unknownBecause: string | undefined;
  /**
   * What the proxy's process has, where its unit is installed: not this shell's, in which the same check
   * would have another result.
   */
  readonly environment: Environment;
  /** Whether these are the service's variables, or this process's for want of them. */
  readonly environmentOf: "service" | "this process";
  /** Environment files that this user cannot read. */
  readonly unreadable: readonly string[];
};

/** What is known without systemd. */
function withoutUnits(own: Environment): Services {
  return {
    ...{ units: [], unknownBecause: undefined, unreadable: [] },
    ...{ environment: own, environmentOf: "this process" },
  };
}

/**
 * Asks systemd about the packaged units. Never rejects.
 * @param own the environment of this process
 */
export async function readServices(own: Environment, run: Run = runCommand): Promise<Services> {
  const properties = `--property=${unitProperties.join(",")}`;
  const shown = await run("systemctl", ["show", "--no-pager", properties, ...packagedUnits]);
  if (shown.kind === "missing" || shown.exitCode !== 0)
    return { ...withoutUnits(own), unknownBecause: whyNot("systemctl", shown) };
  const units = parseUnits(shown.stdout);
  const proxy = units.find(({ name, isLoaded }) => name === "ec2metaproxy.service" && isLoaded);
  if (proxy === undefined) return { ...withoutUnits(own), units: units.filter(({ isLoaded }) => isLoaded) };
  const unreadable: string[] = [];
  let variables: Variables = parseAssignments(proxy.environment);
  for (const { path, isOptional } of proxy.environmentFiles) {
    try {
      variables = { ...variables, ...parseEnvironmentFile(await readFile(path, "utf8")) };
    } catch (error) {
      const isMissing = error instanceof Error && "code" in error && error.code === "ENOENT";
      if (!(isMissing && isOptional)) unreadable.push(explain(error));
    }
  }
  if (unreadable.length > 0) return { ...withoutUnits(own), units, unreadable };
  const environment = serviceEnvironment(own, variables);
  return { units, unknownBecause: undefined, environment, environmentOf: "service", unreadable };
}

/** The service's variables, with what concerns this process kept. */
function serviceEnvironment(own: Environment, variables: Variables): Environment {
  return {
    ...readEnvironment(variables),
    notifySocket: own.notifySocket,
    listenPid: own.listenPid,
    listenFds: own.listenFds,
    listenFdNames: own.listenFdNames,
    runtimeDirectory: own.runtimeDirectory,
    stateDirectory: own.stateDirectory,
    journalStream: own.journalStream,
  };
}
