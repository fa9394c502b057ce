import { healthParts } from "../observability/health.ts";
import type { HistogramMetric, Metric } from "../observability/metrics.ts";
import { version } from "../version.ts";
import type { ProxyDurations } from "./proxy-durations.ts";
import { notLocked, type Status } from "./serve-status.ts";

type One = (name: string, help: string, read: (now: Status) => number) => Metric;

/** The metrics of a running proxy, read from its status. docs/metrics.md lists them. */
export function metricsOf(
  readStatus: () => Status,
  refusals: () => ReadonlyMap<string, number>,
  durations: ProxyDurations | undefined,
): readonly (Metric | HistogramMetric)[] {
  const status = onceInScrape(readStatus);
  const one: One = (name, help, read) => ({ name, help, read: () => [{ value: read(status()) }] });
  return [
    {
      name: "ec2metaproxy_build_info",
      help: "The version of this program and of Node; always 1.",
      labels: ["version", "node_version"],
      read: () => [{ labels: { version, node_version: process.versions.node }, value: 1 }],
    },
    one(
      "ec2metaproxy_healthy",
      "1 while every container that should have a role gets it, and nothing endangers that.",
      (now) => (now.healthy ? 1 : 0),
    ),
    {
      name: "ec2metaproxy_health",
      help: "1 while this part is well, 0 while it is failing; absent where the proxy cannot know.",
      labels: ["part"],
      read: () => {
        const { parts } = status().health;
        return healthParts
          .filter((part) => parts[part] !== "unknown")
          .map((part) => ({ labels: { part }, value: parts[part] === "ok" ? 1 : 0 }));
      },
    },
    one(
      "ec2metaproxy_containers_not_served",
      "Running containers that should have a role and do not get it.",
      (now) => now.containers.filter(({ state }) => state === "failing").length,
    ),
    one(
      "ec2metaproxy_containers",
      "Running containers that the proxy knows.",
      (now) => now.containers.length,
    ),
    one(
      "ec2metaproxy_containers_with_role",
      "Running containers that have a role.",
      (now) => now.containers.filter(({ role }) => role !== undefined).length,
    ),
    {
      name: "ec2metaproxy_engine_connected",
      help: "1 while the engine's events are being followed.",
      labels: ["host"],
      read: () =>
        status().engines.map(({ host, connected }) => ({ labels: { host }, value: connected ? 1 : 0 })),
    },
    ...(status().guard === undefined ? [] : guardMetrics(one, status)),
    one(
      "ec2metaproxy_grants_total",
      "Sets of credentials that were handed to a container for the first time.",
      (now) => now.requests.granted,
    ),
    {
      name: "ec2metaproxy_refusals_total",
      help: "Requests that were refused, by the codes of docs/refusals.md.",
      labels: ["code"],
      read: () => [...refusals()].map(([code, value]) => ({ labels: { code }, value })),
    },
    {
      name: "ec2metaproxy_sts_calls_total",
      help: "AssumeRole calls by outcome.",
      labels: ["outcome"],
      read: () =>
        Object.entries(status().credentials.calls).map(([outcome, value]) => ({
          labels: { outcome },
          value,
        })),
    },
    one(
      "ec2metaproxy_sts_call_seconds_total",
      "Total time of all AssumeRole calls.",
      (now) => now.credentials.spentMs / 1000,
    ),
    one("ec2metaproxy_sts_calls_in_flight", "AssumeRole calls under way.", (now) => now.credentials.inFlight),
    {
      name: "ec2metaproxy_sts_call_duration_seconds",
      help: "Durations of AssumeRole calls by outcome.",
      labels: ["outcome"],
      histograms: () =>
        [...(durations?.calls ?? [])].map(([outcome, calls]) => ({ labels: { outcome }, durations: calls })),
    },
    one(
      "ec2metaproxy_sts_healthy",
      "1 while roles can be assumed: STS answers and does not throttle.",
      (now) => (now.health.parts.sts === "failing" ? 0 : 1),
    ),
    one(
      "ec2metaproxy_credentials_ready",
      "Sets of credentials that are valid now.",
      (now) => now.credentials.warm,
    ),
    one(
      "ec2metaproxy_credentials_failing",
      "Sets of credentials whose last renewal failed.",
      (now) => now.credentials.failing,
    ),
    one(
      "ec2metaproxy_credentials_first_expiry_seconds",
      "Time until the first set of credentials expires; 0 if there is none.",
      (now) => (now.credentials.smallestRemainingMs ?? 0) / 1000,
    ),
    {
      name: "ec2metaproxy_credentials_remaining_seconds",
      help: "Time until the credentials of an alias expire, of the container with the least; 0 where one has none.",
      labels: ["alias"],
      read: () => remainingByAlias(status()),
    },
    {
      name: "ec2metaproxy_request_duration_seconds",
      help: "Durations of requests by the first digit of the answer's status.",
      labels: ["status"],
      histograms: () =>
        [...(durations?.requests ?? [])].map(([digit, requests]) => ({
          labels: { status: `${digit}xx` },
          durations: requests,
        })),
    },
    one(
      "ec2metaproxy_clients_waiting",
      "Clients that are waiting for STS.",
      (now) => now.credentials.waiting,
    ),
    one(
      "ec2metaproxy_config_valid",
      "0 after a refused reload: the previous configuration is in force.",
      (now) => (now.configProblem === undefined ? 1 : 0),
    ),
  ];
}

/** Judging every container takes a while, and each metric asks for the status. */
function onceInScrape(read: () => Status): () => Status {
  let known: Status | undefined;
  return () => {
    if (known === undefined)
      setImmediate(() => {
        known = undefined;
      });
    known ??= read();
    return known;
  };
}

/** Aliases come from the configuration, so their number does not depend on what containers do. */
const maxAliases = 200;

/** Of containers whose credentials were asked for. */
function remainingByAlias({ containers }: Status) {
  const remaining = new Map<string, number>();
  for (const { alias = "", role, credentials } of containers) {
    if (role === undefined || credentials === undefined) continue;
    const left = Math.max(0, credentials.expiresInSeconds ?? 0);
    remaining.set(alias, Math.min(remaining.get(alias) ?? Number.POSITIVE_INFINITY, left));
  }
  // The shortest are those that matter.
  return [...remaining]
    .toSorted(([, a], [, b]) => a - b)
    .slice(0, maxAliases)
    .map(([alias, value]) => ({ labels: { alias }, value }));
}

/** Left out where there is no guard, so that nobody is alerted to its absence. */
function guardMetrics(one: One, status: () => Status): readonly Metric[] {
  return [
    one(
      "ec2metaproxy_guard_connected",
      "1 while the guard is being followed. Only with --guard, as the next three.",
      (now) => (now.guard?.connected === true ? 1 : 0),
    ),
    {
      name: "ec2metaproxy_firewall_in_force",
      help: "1 while the guard finds the firewall rules in force, 0 while it does not; absent while it cannot tell.",
      read: () => {
        const { firewall } = status().health.parts;
        return firewall === "unknown" ? [] : [{ value: firewall === "ok" ? 1 : 0 }];
      },
    },
    one(
      "ec2metaproxy_containers_locked",
      "Running containers whose addresses the port lock protects.",
      (now) => now.containers.filter(({ protection }) => protection?.locked === true).length,
    ),
    one(
      "ec2metaproxy_containers_unlocked",
      "Running containers with an address that the port lock does not protect.",
      (now) => notLocked(now).length,
    ),
  ];
}
