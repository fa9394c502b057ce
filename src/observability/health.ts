import { causeText, metadataFailureOf } from "../credentials/diagnosis.ts";
import { failures } from "../credentials/failures.ts";
import type { CacheStats } from "../credentials/stats.ts";
import type { EngineState } from "../engine/connection.ts";
import { engineTrouble } from "../engine/trouble.ts";
import { explain } from "../errors.ts";
import type { GuardState } from "../guard/subscriber.ts";
import type { MetadataState } from "../metadata/reachability.ts";
import { graceMs, recentMs, type Verdict } from "./container-health.ts";

/** Named as the subjects of `check`. */
export const healthParts = [
  "configuration",
  "containers",
  "engine",
  "firewall",
  "guard",
  "metadata",
  "sts",
] as const;
export type HealthPart = (typeof healthParts)[number];

/** One thing that is wrong. */
export type HealthProblem = {
  readonly part: HealthPart;
  /** For one line; may contain what a container, an engine or AWS wrote. */
  readonly message: string;
  /** What to do; empty where there is nothing. */
  readonly hint: string;
  /** The part of the message that says why, by which effects of one cause are recognized. */
  readonly cause?: string;
};

export type Health = {
  /** No part is failing: every container that should have a role gets it, and that will stay so. */
  readonly healthy: boolean;
  /** `unknown`: this process cannot know, which is not unhealthy. */
  readonly parts: Readonly<Record<HealthPart, "ok" | "failing" | "unknown">>;
  readonly problems: readonly HealthProblem[];
  /** Worth knowing, and not unhealthy. */
  readonly notes: readonly HealthProblem[];
};

export type HealthFacts = {
  /** Why the last reload was refused; undefined if it was not. */
  readonly configProblem: string | undefined;
  readonly configPath: string;
  /** Roles that the configuration allows. */
  readonly roles: number;
  readonly identityProof: "socket" | "address" | "token" | "off";
  readonly engines: readonly Pick<EngineState, "host" | "connected" | "lastError">[];
  /** Undefined for a proxy without --guard. */
  readonly guard: (Omit<GuardState, "engines"> & { readonly path: string }) | undefined;
  readonly credentials: Pick<CacheStats, "state" | "failure">;
  readonly metadata: MetadataState;
  /** Why the host's own call to STS failed, where none has succeeded yet. */
  readonly hostProblem:
    | {
        readonly message: string;
        /** In the message; undefined if it is not known. */
        readonly cause?: string | undefined;
        readonly cure: string;
        readonly calls: number;
      }
    | undefined;
  /** Whether the host's keys or the region come from the metadata service. */
  readonly needsMetadata: boolean;
  /** The last request from an address of no known container. */
  readonly stranger: { readonly address: string; readonly agoMs: number } | undefined;
  readonly containers: readonly {
    readonly name: string;
    readonly isUnlocked: boolean;
    readonly verdict: Verdict;
  }[];
};

type Judged = Pick<Health, "problems" | "notes"> & { readonly isUnknown?: boolean };

/** Calls or exchanges: a single failure is normal, and is repeated at once. */
const failuresThatCount = 2;

/** The one judgement that `status`, systemd's status line, /healthz, the metrics and exit codes show. */
export function healthOf(facts: HealthFacts): Health {
  const judged: Readonly<Record<HealthPart, Judged>> = {
    configuration: judgeConfiguration(facts),
    containers: judgeContainers(facts),
    engine: judgeEngines(facts),
    firewall: judgeFirewall(facts),
    guard: judgeGuard(facts),
    metadata: judgeMetadata(facts),
    sts: judgeSts(facts),
  };
  const state = (part: HealthPart) => {
    const { problems, isUnknown } = judged[part];
    return problems.length > 0 ? "failing" : isUnknown === true ? "unknown" : "ok";
  };
  const parts: Health["parts"] = {
    configuration: state("configuration"),
    containers: state("containers"),
    engine: state("engine"),
    firewall: state("firewall"),
    guard: state("guard"),
    metadata: state("metadata"),
    sts: state("sts"),
  };
  const all = order.map((part) => judged[part]);
  const problems = all.flatMap((one) => one.problems);
  return { healthy: problems.length === 0, parts, problems, notes: all.flatMap((one) => one.notes) };
}

/** Causes before their effects: one line has room for a few. */
const order: readonly HealthPart[] = [
  "firewall",
  "guard",
  "engine",
  "metadata",
  "sts",
  "configuration",
  "containers",
];

const fine: Judged = { problems: [], notes: [] };

function problem(part: HealthPart, message: string, hint: string, cause?: string): Judged {
  return { problems: [{ part, message, hint, ...(cause !== undefined && { cause }) }], notes: [] };
}

function note(part: HealthPart, message: string, hint: string, isUnknown = false): Judged {
  return { problems: [], notes: [{ part, message, hint }], isUnknown };
}

function judgeConfiguration({ configProblem, configPath, roles }: HealthFacts): Judged {
  if (configProblem !== undefined)
    return problem(
      "configuration",
      `reload refused, the previous configuration is in force: ${configProblem}`,
      `Edit ${configPath}, then: systemctl reload ec2metaproxy`,
    );
  if (roles === 0)
    return note("configuration", "no role is configured", `Define aliases in aliasToARN in ${configPath}.`);
  return fine;
}

function judgeEngines({ engines, guard }: HealthFacts): Judged {
  // That its engines are not connected either goes without saying.
  if (guard?.connected === false) return { ...fine, isUnknown: true };
  const problems = engines.flatMap((engine): HealthProblem[] => {
    const trouble = engineTrouble(engine);
    if (trouble === undefined) return [];
    const hint = engine.connected
      ? "Containers that it does not describe get nothing."
      : "Containers that start there now get nothing. Is the engine running?";
    return [{ part: "engine", message: `engine ${engine.host} ${trouble}`, hint }];
  });
  return { problems, notes: [] };
}

function judgeGuard({ guard, identityProof, containers }: HealthFacts): Judged {
  if (guard === undefined)
    return note(
      "guard",
      "no guard is followed: no port lock, and nothing is known about the firewall",
      "",
      true,
    );
  if (!guard.connected)
    return problem(
      "guard",
      `guard ${guard.path} not connected: ${guard.lastError ?? "it has not answered yet"}`,
      "Containers that start now get 503. systemctl status ec2metaproxy-guard",
    );
  const trouble = guard.host?.lockTrouble ?? "";
  const unlocked = containers.filter(({ isUnlocked }) => isUnlocked).length;
  if (trouble === "" && unlocked === 0) return fine;
  const why = trouble === "" ? "" : `; the port lock cannot be completed: ${trouble}`;
  const hint = "`ec2metaproxy status` says why. docs/firewall.md lists what the port lock needs.";
  return identityProof === "address"
    ? problem("guard", `${count(unlocked, "container")} not locked and therefore refused${why}`, hint)
    : note("guard", `${count(unlocked, "container")} not locked${why}`, hint);
}

/** By the guard's word. While it is away, nothing is known. */
function judgeFirewall({ guard }: HealthFacts): Judged {
  if (guard?.connected !== true || guard.host === undefined) return { ...fine, isUnknown: true };
  const { state, reason } = guard.host.firewall;
  const hint =
    "`ec2metaproxy firewall status` lists what is missing. To install the rules: systemctl restart ec2metaproxy-firewall";
  switch (state) {
    case "in-force":
      return fine;
    case "not-in-force":
      return problem(
        "firewall",
        `firewall rules NOT IN FORCE, containers may reach the instance's own role: ${reason}`,
        hint,
      );
    case "check-failed":
      return problem(
        "firewall",
        `the firewall rules cannot be checked: ${reason}`,
        "`ec2metaproxy firewall status` says more. As far as is known, the rules that were in force before still are.",
      );
    case "unknown":
      return note(
        "firewall",
        `firewall rules: ${reason}`,
        "`ec2metaproxy firewall status` checks them.",
        true,
      );
  }
}

function judgeMetadata({ metadata, needsMetadata }: HealthFacts): Judged {
  const { failure, quietMs } = metadata;
  if (failure === undefined) return quietMs === undefined ? { ...fine, isUnknown: true } : fine;
  if (failure.exchanges < failuresThatCount || failure.forMs < graceMs) return fine;
  const { cause, cure } = failures[metadataFailureOf(failure.error)];
  const message = `${cause} (${explain(failure.error)})`;
  return needsMetadata
    ? problem("metadata", message, cure, cause)
    : note("metadata", `${message} (the host's credentials do not depend on it)`, "", true);
}

function judgeSts({ credentials, hostProblem, roles }: HealthFacts): Judged {
  const { state, failure } = credentials;
  if (state === "throttled" || failure?.kind === "throttled") {
    const isSingle = state !== "throttled" && (failure?.calls ?? 0) < failuresThatCount;
    return isSingle ? fine : problem("sts", failures.throttled.cause, failures.throttled.cure);
  }
  const isFailing = failure !== undefined && failure.calls >= failuresThatCount && failure.forMs >= graceMs;
  if (isFailing || state === "down") {
    if (failure === undefined) return problem("sts", "roles cannot be assumed", "");
    return problem("sts", `roles cannot be assumed: ${causeText(failure)}`, failure.cure, failure.cause);
  }
  // Without a role in the configuration, the host needs no credentials.
  if (hostProblem !== undefined && hostProblem.calls >= failuresThatCount && roles > 0)
    return problem(
      "sts",
      `roles cannot be assumed: ${hostProblem.message}`,
      hostProblem.cure,
      hostProblem.cause,
    );
  return fine;
}

/** One problem for each cause. */
function judgeContainers({ containers, stranger }: HealthFacts): Judged {
  const failing = containers.filter(({ verdict }) => verdict.kind === "failing");
  const byCause = Map.groupBy(failing, ({ verdict }) => verdict.message);
  const problems = [...byCause].map(([message, those]): HealthProblem => {
    const names = those.slice(0, namesShown).map(({ name }) => name);
    const more = those.length - names.length;
    const who = `${names.join(", ")}${more === 0 ? "" : ` and ${more} more`}`;
    const { hint = "", cause } = those[0]?.verdict ?? {};
    return {
      ...{ part: "containers", message: `${who}: ${message}`, hint },
      ...(cause !== undefined && { cause }),
    };
  });
  // Steps of `docker build` have such addresses too, so it need not be a failure.
  const isRecent = stranger !== undefined && stranger.agoMs < recentMs;
  const notes: readonly HealthProblem[] = isRecent
    ? [
        {
          part: "containers",
          message: `${stranger.address} asked and was refused: no known container has this address`,
          hint: "If it is a container's, its engine is missing in dockerHost or dockerHosts.",
        },
      ]
    : [];
  return { problems, notes };
}

/** Names in one line. */
const namesShown = 5;

export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
