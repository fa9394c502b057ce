import { addressesOf, type Container } from "../containers/container.ts";
import type { Directory } from "../containers/directory.ts";
import type { Locks, Protection } from "../containers/protection.ts";
import type { HeldCredentials } from "../credentials/held.ts";
import type { Callers } from "../imds/callers.ts";
import { judgeContainer, type Verdict } from "../observability/container-health.ts";
import type { DenialCode } from "../roles/denial.ts";

/** One container in the status. Keys are stable; times are relative, so that no clock matters. */
export type ContainerStatus = {
  readonly id: string;
  readonly name: string;
  readonly addresses: readonly string[];
  /** Id of the container in whose network it runs. */
  readonly networkOf: string | undefined;
  /** Absent where there is nothing to lock: no guard, no address, or a static container. */
  readonly protection: Protection | undefined;
  readonly role: string | undefined;
  readonly alias: string | undefined;
  readonly code: DenialCode | undefined;
  readonly reason: string | undefined;
  /** What it really gets; see observability/container-health.ts. */
  readonly state: Verdict["kind"];
  /** Why it is in that state, in words, and what to do; empty where there is nothing to say. */
  readonly message: string;
  readonly hint: string;
  /** The part of the message that says why its role cannot be assumed. */
  readonly cause?: string;
  /** Absent where its credentials were not asked for yet. */
  readonly credentials:
    | {
        readonly state: HeldCredentials["state"];
        /** ISO 8601, by STS's clock; of the last ones, which may have expired. */
        readonly expires: string | undefined;
        readonly expiresInSeconds: number | undefined;
        readonly refreshedSecondsAgo: number | undefined;
        readonly lastError:
          | (Omit<NonNullable<HeldCredentials["lastError"]>, "agoMs"> & { readonly secondsAgo: number })
          | undefined;
      }
    | undefined;
  readonly requests: number;
  readonly refusals: number;
  /** Of a request for its role. */
  readonly lastRefusal:
    | { readonly code: string; readonly reason: string; readonly secondsAgo: number }
    | undefined;
};

/** What the proxy knows about its containers. */
export type ContainerSources = {
  readonly directory: Pick<Directory, "at" | "byId">;
  readonly callers: Pick<Callers, "of">;
  /** Of a key of the cache: after a reload, a container may still hold those of another role. */
  readonly credentialsOf: (id: string, key: string) => HeldCredentials | undefined;
  /** Undefined without a guard. */
  readonly locks: Pick<Locks, "protectionOf"> | undefined;
  readonly identityProof: "socket" | "address" | "token" | "off";
  /** The clock of activities and credentials, in milliseconds. */
  readonly now: number;
};

export function containerStatus(container: Container, sources: ContainerSources): ContainerStatus {
  const { directory, callers, credentialsOf, locks, now } = sources;
  const { decision, activity, key } = callers.of(container);
  const addresses = addressesOf(container);
  const isLockable = container.source === "engine" && addresses.length > 0;
  const protection = isLockable ? locks?.protectionOf(container.id) : undefined;
  const held = credentialsOf(container.id, key);
  const owner = networkOwner(container, directory);
  const verdict = judgeContainer(
    {
      container,
      decision,
      activity,
      held,
      protection,
      rivals: rivalsOf(container, addresses, directory),
      networkOwner: owner && { name: owner.name, decision: callers.of(owner).decision },
    },
    sources,
  );
  const { lastRefusal } = activity;
  return {
    id: container.id,
    name: container.name,
    addresses,
    networkOf: container.networkOf,
    protection,
    role: decision.kind === "grant" ? decision.request.roleArn : undefined,
    alias: decision.kind === "grant" ? decision.alias : undefined,
    code: decision.kind === "denial" ? decision.code : undefined,
    reason: decision.kind === "denial" ? decision.reason : undefined,
    state: verdict.kind,
    message: verdict.message,
    hint: verdict.hint,
    ...(verdict.cause !== undefined && { cause: verdict.cause }),
    credentials: held && credentialsStatus(held),
    requests: activity.requests,
    refusals: activity.refusals,
    lastRefusal: lastRefusal && {
      code: lastRefusal.code,
      reason: lastRefusal.reason,
      secondsAgo: seconds(now - lastRefusal.at),
    },
  };
}

/** The container that owns the network of another; an engine may name it by the beginning of its id. */
export function networkOwner(
  { networkOf }: Container,
  directory: Pick<Directory, "byId">,
): Container | undefined {
  const found = networkOf === undefined ? [] : directory.byId(networkOf);
  return found.length === 1 ? found[0] : undefined;
}

function rivalsOf(
  { id }: Container,
  addresses: readonly string[],
  directory: Pick<Directory, "at">,
): readonly string[] {
  const rivals = addresses.flatMap((address) => {
    const lookup = directory.at(address);
    return lookup.kind === "conflict" ? lookup.containers.filter((other) => other.id !== id) : [];
  });
  return [...new Set(rivals.map(({ name }) => name))];
}

function credentialsStatus(held: HeldCredentials): NonNullable<ContainerStatus["credentials"]> {
  const { state, expiresAt, remainingMs, ageMs, lastError } = held;
  return {
    state,
    expires: expiresAt === undefined ? undefined : new Date(expiresAt).toISOString(),
    expiresInSeconds: remainingMs === undefined ? undefined : seconds(remainingMs),
    refreshedSecondsAgo: ageMs === undefined ? undefined : seconds(ageMs),
    lastError: lastError && errorStatus(lastError),
  };
}

function errorStatus({ agoMs, ...error }: NonNullable<HeldCredentials["lastError"]>) {
  return { ...error, secondsAgo: seconds(agoMs) };
}

function seconds(ms: number): number {
  return Math.round(ms / 1000);
}
