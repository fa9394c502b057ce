import type { Config } from "../config/schema.ts";
import { addressesOf, type Container } from "../containers/container.ts";
import type { Finding } from "./finding.ts";
import type { GuardView } from "./guard-view.ts";

/** Names in one line. */
const namesShown = 10;

/**
 * What `check` says about the guard and its port lock. A failure where callers depend on it, a note where
 * they are identified without it.
 * @param running the engines' containers, which may be more than the guard knows
 */
export function guardFindings(
  config: Pick<Config, "identityProof">,
  view: GuardView,
  running: readonly Container[],
): readonly Finding[] {
  const isNeeded = config.identityProof === "address";
  const finding = (ok: Finding["ok"], text: string, hint = ""): Finding => ({
    subject: "guard",
    ok,
    text,
    hint,
  });
  const findings: Finding[] = [];
  const { path, proxy, silentBecause } = view;
  if (proxy.kind === "not connected")
    findings.push(
      finding(
        false,
        `the running proxy does not hear the guard at ${proxy.path}: ${proxy.lastError}`,
        "Containers that start now get 503. `systemctl status ec2metaproxy-guard` says more.",
      ),
    );
  if (proxy.kind === "without a guard" && (isNeeded || silentBecause === undefined))
    findings.push(
      finding(
        isNeeded ? false : undefined,
        isNeeded
          ? 'identityProof is "address", and the running proxy was started without --guard: it rejects this configuration'
          : `the running proxy was started without --guard: it does not follow the guard at ${path}`,
        `Start it with --guard ${path}.`,
      ),
    );
  if (silentBecause !== undefined) {
    const isExpected = isNeeded || "path" in proxy;
    const meaning = isNeeded
      ? 'identityProof is "address", so no container can be identified'
      : "no container's address is locked, so a neighbour with NET_RAW can read its answers in transit";
    return [
      ...findings,
      finding(
        isExpected ? false : undefined,
        `the guard at ${path} does not answer: ${silentBecause}; ${meaning}`,
        "Is ec2metaproxy-guard.service running, and may this user open its socket (root, or group ec2metaproxy)?",
      ),
    ];
  }
  const containers = new Map([...running, ...view.containers].map((container) => [container.id, container]));
  const lockable = [...containers.values()].filter(
    (container) => container.source === "engine" && addressesOf(container).length > 0,
  );
  const unlocked = Map.groupBy(
    lockable.filter(({ id }) => !view.protectionOf(id).locked),
    ({ id }) => view.protectionOf(id).reason,
  );
  const count = [...unlocked.values()].flat().length;
  return [
    ...findings,
    finding(
      true,
      `${path}: version ${view.version ?? "unknown"}, ${lockable.length - count} of ${lockable.length} containers locked`,
    ),
    ...view.engines
      .filter(({ connected }) => !connected)
      .map(({ host, lastError }) =>
        finding(
          false,
          `the guard cannot follow ${host}: ${lastError ?? "it has not answered yet"}`,
          "Containers that start there get 503. Is the engine running?",
        ),
      ),
    ...[...unlocked].map(([reason, without]) =>
      finding(
        isNeeded ? false : undefined,
        `not locked: ${named(without)} (${reason})${isNeeded ? "; refused with address-not-locked" : "; identified by the socket proof alone"}`,
        "docs/firewall.md lists what the port lock needs.",
      ),
    ),
  ];
}

function named(containers: readonly Container[]): string {
  const names = containers.slice(0, namesShown).map(({ name }) => name);
  const more = containers.length - names.length;
  return `${names.join(", ")}${more === 0 ? "" : ` and ${more} more`}`;
}
