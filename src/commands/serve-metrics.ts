import type { Metric } from "../observability/metrics.ts";
import { notLocked, type Status } from "./serve-status.ts";

type One = (name: string, help: string, read: (now: Status) => number) => Metric;

/** The metrics of a running proxy, read from its status. docs/metrics.md lists them. */
export function metricsOf(
  status: () => Status,
  refusals: () => ReadonlyMap<string, number>,
): readonly Metric[] {
  const one: One = (name, help, read) => ({ name, help, read: () => [{ value: read(status()) }] });
  return [
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
    ...(status().guard === undefined ? [] : guardMetrics(one)),
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
    one("ec2metaproxy_sts_healthy", "1 while STS answers and does not throttle.", (now) =>
      now.credentials.state === "normal" ? 1 : 0,
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

/** Left out where there is no guard, so that nobody is alerted to its absence. */
function guardMetrics(one: One): readonly Metric[] {
  return [
    one(
      "ec2metaproxy_guard_connected",
      "1 while the guard is being followed. Only with --guard, as the next two.",
      (now) => (now.guard?.connected === true ? 1 : 0),
    ),
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
