import type { Container } from "../containers/container.ts";
import type { CacheStats } from "../credentials/cache.ts";
import type { EngineState } from "../engine/connection.ts";
import type { Callers } from "../imds/callers.ts";
import type { DenialCode } from "../roles/denial.ts";
import { version } from "../version.ts";

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
  readonly engines: readonly EngineState[];
  readonly credentials: CacheStats;
  readonly requests: { readonly refused: number; readonly granted: number };
  readonly containers: readonly {
    readonly id: string;
    readonly name: string;
    readonly addresses: readonly string[];
    readonly role: string | undefined;
    readonly alias: string | undefined;
    readonly code: DenialCode | undefined;
    readonly reason: string | undefined;
  }[];
};

export type StatusFacts = Pick<
  Status,
  "uptimeSeconds" | "listening" | "configPath" | "configProblem" | "engines" | "credentials" | "requests"
> & {
  readonly containers: readonly Container[];
  readonly callers: Pick<Callers, "of">;
  readonly roles: number;
};

export function statusOf(facts: StatusFacts): Status {
  const { containers, callers, roles: _roles, ...rest } = facts;
  const described = containers.map((container) => {
    const { decision } = callers.of(container);
    const grant = decision.kind === "grant" ? decision : undefined;
    const denial = decision.kind === "denial" ? decision : undefined;
    return {
      id: container.id,
      name: container.name,
      addresses: container.attachments.flatMap(({ ipv4, ipv6 }) =>
        [ipv4, ipv6].filter((address) => address !== undefined),
      ),
      role: grant?.request.roleArn,
      alias: grant?.alias,
      code: denial?.code,
      reason: denial?.reason,
    };
  });
  const healthy =
    facts.configProblem === undefined &&
    facts.engines.every(({ connected }) => connected) &&
    facts.credentials.state === "normal";
  return {
    version,
    healthy,
    summary: summary(facts, described.filter(({ role }) => role !== undefined).length),
    ...rest,
    containers: described,
  };
}

/** `Serving 12 containers, 10 with a role; Docker 28.2.2`, then what is wrong. */
function summary(facts: StatusFacts, withRole: number): string {
  const parts = [`Serving ${count(facts.containers.length, "container")}, ${withRole} with a role`];
  if (facts.roles === 0) parts.push("no role is configured");
  for (const engine of facts.engines) {
    parts.push(
      engine.connected
        ? (engine.engine ?? engine.host)
        : `engine ${engine.host} not connected: ${engine.lastError ?? "not tried yet"}`,
    );
  }
  if (facts.credentials.state === "down") parts.push("STS does not answer");
  if (facts.credentials.state === "throttled") parts.push("STS throttles our calls");
  if (facts.credentials.refused > 0) parts.push(`${count(facts.credentials.refused, "role")} refused by IAM`);
  if (facts.configProblem !== undefined)
    parts.push(`reload refused, the previous configuration is in force: ${facts.configProblem}`);
  return parts.join("; ");
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
