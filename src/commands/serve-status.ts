import { addressesOf, type Container } from "../containers/container.ts";
import type { Protection } from "../containers/protection.ts";
import type { CacheStats } from "../credentials/cache.ts";
import type { EngineState } from "../engine/connection.ts";
import type { GuardState } from "../guard/subscriber.ts";
import type { Callers } from "../imds/callers.ts";
import type { DenialCode } from "../roles/denial.ts";
import { version } from "../version.ts";
import type { Engines } from "./engines.ts";

/**
 * What `ec2metaproxy status` prints. Holds no secret. Keys are stable, since programs read them (`--json`).
 */
export type Status = {
  readonly version: string;
  readonly healthy: boolean;
  /** One line, which `systemctl status` shows too. */
  readonly summary: string;
  readonly uptimeSeconds: number;
  readonly listening: string;
  readonly configPath: string;
  /** Why the last reload was refused; the previous configuration is in force. */
  readonly configProblem: string | undefined;
  readonly identityProof: "socket" | "address" | "token" | "off";
  /** Absent where the proxy follows the engines itself. */
  readonly guard: (Omit<GuardState, "engines"> & { readonly path: string }) | undefined;
  readonly engines: readonly EngineState[];
  readonly credentials: CacheStats;
  readonly requests: { readonly refused: number; readonly granted: number };
  readonly containers: readonly {
    readonly id: string;
    readonly name: string;
    readonly addresses: readonly string[];
    /** Absent where there is nothing to lock: no guard, no address, or a static container. */
    readonly protection: Protection | undefined;
    readonly role: string | undefined;
    readonly alias: string | undefined;
    readonly code: DenialCode | undefined;
    readonly reason: string | undefined;
  }[];
};

export type StatusFacts = Pick<
  Status,
  | "uptimeSeconds"
  | "listening"
  | "configPath"
  | "configProblem"
  | "identityProof"
  | "engines"
  | "credentials"
  | "requests"
> & {
  readonly guard: Engines["guard"];
  readonly containers: readonly Container[];
  readonly callers: Pick<Callers, "of">;
  readonly roles: number;
};

export function statusOf(facts: StatusFacts): Status {
  const { containers, callers, roles, guard, ...rest } = facts;
  const described = containers.map((container) => {
    const { decision } = callers.of(container);
    const grant = decision.kind === "grant" ? decision : undefined;
    const denial = decision.kind === "denial" ? decision : undefined;
    const addresses = addressesOf(container);
    const isLockable = container.source === "engine" && addresses.length > 0;
    return {
      id: container.id,
      name: container.name,
      addresses,
      protection: isLockable ? guard?.locks.protectionOf(container.id) : undefined,
      role: grant?.request.roleArn,
      alias: grant?.alias,
      code: denial?.code,
      reason: denial?.reason,
    };
  });
  const status = { ...rest, guard: guard && guardStatus(guard), containers: described };
  const isHealthy =
    facts.configProblem === undefined &&
    status.guard?.connected !== false &&
    facts.engines.every(({ connected }) => connected) &&
    facts.credentials.state === "normal" &&
    !(facts.identityProof === "address" && notLocked(status).length > 0);
  return { version, healthy: isHealthy, summary: summary(status, roles), ...status };
}

function guardStatus({ path, state }: NonNullable<Engines["guard"]>): NonNullable<Status["guard"]> {
  const { engines: _, ...guard } = state();
  return { path, ...guard };
}

/** The containers that the port lock should protect and does not. */
export function notLocked({ containers }: Pick<Status, "containers">): Status["containers"] {
  return containers.filter(({ protection }) => protection?.locked === false);
}

/** `Serving 12 containers, 10 with a role; Docker 28.2.2`, then what is wrong. */
function summary(status: Omit<Status, "version" | "healthy" | "summary">, roles: number): string {
  const { containers, credentials, configProblem, engines, guard, identityProof } = status;
  const withRole = containers.filter(({ role }) => role !== undefined).length;
  const parts = [`Serving ${count(containers.length, "container")}, ${withRole} with a role`];
  if (roles === 0) parts.push("no role is configured");
  if (guard?.connected === false) {
    // That its engines are not connected either goes without saying.
    parts.push(`guard ${guard.path} not connected: ${guard.lastError ?? "it has not answered yet"}`);
  } else {
    for (const engine of engines) {
      parts.push(
        engine.connected
          ? (engine.engine ?? engine.host)
          : `engine ${engine.host} not connected: ${engine.lastError ?? "not tried yet"}`,
      );
    }
  }
  const unlocked = notLocked(status).length;
  if (unlocked > 0)
    parts.push(
      `${count(unlocked, "container")} not locked${identityProof === "address" ? " and therefore refused" : ""}`,
    );
  if (credentials.state === "down") parts.push("STS does not answer");
  if (credentials.state === "throttled") parts.push("STS throttles our calls");
  if (credentials.refused > 0) parts.push(`${count(credentials.refused, "role")} refused by IAM`);
  // What to do about each is in `status`: this is one line.
  parts.push(...credentials.problems.map(({ cause }) => cause));
  if (configProblem !== undefined)
    parts.push(`reload refused, the previous configuration is in force: ${configProblem}`);
  return parts.join("; ");
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
