import type { Container } from "../containers/container.ts";
import type { CacheStats } from "../credentials/cache.ts";
import type { EngineState } from "../engine/connection.ts";
import type { GuardState } from "../guard/subscriber.ts";
import {
  count,
  type Health,
  type HealthFacts,
  type HealthProblem,
  healthOf,
} from "../observability/health.ts";
import { version } from "../version.ts";
import { type ContainerSources, type ContainerStatus, containerStatus } from "./container-status.ts";
import type { Engines } from "./engines.ts";

/**
 * What `ec2metaproxy status` prints. Holds no secret. Keys are stable, since programs read them (`--json`).
 */
export type Status = {
  readonly version: string;
  readonly healthy: boolean;
  readonly health: Health;
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
  readonly containers: readonly ContainerStatus[];
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
> &
  Pick<HealthFacts, "metadata" | "needsMetadata" | "hostProblem" | "roles" | "stranger"> &
  Omit<ContainerSources, "locks"> & {
    readonly guard: Engines["guard"];
    readonly containers: readonly Container[];
  };

export function statusOf(facts: StatusFacts): Status {
  const { uptimeSeconds, listening, configPath, configProblem, identityProof } = facts;
  const { engines, credentials, requests, roles, metadata, needsMetadata, hostProblem } = facts;
  const sources = { ...facts, locks: facts.guard?.locks };
  const containers = facts.containers.map((container) => containerStatus(container, sources));
  const guard = facts.guard && guardStatus(facts.guard);
  const unlocked = new Set(notLocked({ containers }));
  const health = healthOf({
    ...{ configPath, configProblem, identityProof, engines, credentials, roles, guard },
    ...{ metadata, needsMetadata, hostProblem, stranger: facts.stranger },
    containers: containers.map((one) => ({
      name: one.name,
      isUnlocked: unlocked.has(one),
      verdict: {
        ...{ kind: one.state, message: one.message, hint: one.hint },
        ...(one.cause !== undefined && { cause: one.cause }),
      },
    })),
  });
  return {
    version,
    healthy: health.healthy,
    health,
    summary: summary(containers, engines, guard, health),
    ...{ uptimeSeconds, listening, configPath, configProblem, identityProof, guard },
    ...{ engines, credentials, requests, containers },
  };
}

function guardStatus({ path, state }: NonNullable<Engines["guard"]>): NonNullable<Status["guard"]> {
  const { engines: _, ...guard } = state();
  return { path, ...guard };
}

/** The containers that the port lock should protect and does not. */
export function notLocked({ containers }: Pick<Status, "containers">): Status["containers"] {
  return containers.filter(({ protection }) => protection?.locked === false);
}

/** Of the problems and notes, so that the line stays one that a person reads. */
const shownInLine = 4;
/** Characters of one of them. */
const maxMessage = 300;

/** `Serving 12 containers, 10 with a role; Docker 28.2.2`, then what is wrong. */
function summary(
  containers: Status["containers"],
  engines: Status["engines"],
  guard: Status["guard"],
  { problems, notes }: Health,
): string {
  const withRole = containers.filter(({ role }) => role !== undefined).length;
  const failing = containers.filter(({ state }) => state === "failing").length;
  const served = failing === 0 ? "" : `, ${failing} NOT SERVED`;
  const connected = guard?.connected === false ? [] : engines.filter((engine) => engine.connected);
  const shown = [...problems, ...notes.filter(({ part }) => part !== "guard" || guard !== undefined)];
  const messages = withoutRepeats(shown).map((message) =>
    message.length > maxMessage ? `${message.slice(0, maxMessage - 1)}…` : message.replace(/\.$/, ""),
  );
  const more = messages.length - shownInLine;
  return [
    `Serving ${count(containers.length, "container")}, ${withRole} with a role${served}`,
    ...connected.map(({ engine, host }) => engine ?? host),
    ...messages.slice(0, shownInLine),
    ...(more > 0 ? [`and ${more} more: ec2metaproxy status`] : []),
  ].join("; ");
}

/** One cause may have several effects: the host without credentials, all roles, each container. */
function withoutRepeats(problems: readonly HealthProblem[]): readonly string[] {
  const said = new Set<string>();
  return problems.map(({ message, cause }) => {
    if (cause === undefined) return message;
    const isRepeated = said.has(cause);
    said.add(cause);
    const effect = message.slice(0, message.indexOf(cause)).replace(/:? *$/, "");
    return isRepeated && effect !== "" ? `${effect} for the same reason` : message;
  });
}
