import { setTimeout as sleep } from "node:timers/promises";
import { type Container, isStarting } from "../containers/container.ts";
import type { Directory, Lookup } from "../containers/directory.ts";
import type { Locks } from "../containers/protection.ts";
import type { Proof, Provenance, Via } from "../containers/provenance.ts";
import type { Caller, Callers, ProofKind } from "./callers.ts";
import type { Connection } from "./connection.ts";
import type { IdentityCode } from "./refusals.ts";

/**
 * How long a request waits for news of a container that may have just started: that its engine names it, and
 * that its port lock is in force.
 */
const newsWaitMs = 2_000;

/** How long to wait for the end of a connection that the client's kernel has announced already. */
const endedWithinMs = 50;

type Unproven = Extract<Proof, { proven: false }>;
type ContainerLookup = Extract<Lookup, { kind: "container" }>;

export type Identified = {
  readonly ok: true;
  readonly lookup: ContainerLookup;
  readonly caller: Caller;
  readonly proof: ProofKind;
};

export type Unidentified = {
  readonly ok: false;
  readonly code: IdentityCode;
  readonly reason: string;
  /** The container that is known to have the address, if there is one. */
  readonly caller: Caller | undefined;
};

export type Identity = Identified | Unidentified;

export type IdentityDependencies = {
  readonly directory: Pick<Directory, "at" | "waitFor">;
  /**
   * Settles when the engines' first lists are in, or have not come in time. Until then no address is refused
   * as unknown.
   */
  readonly listed: Promise<void>;
  /**
   * Why the directory may lack containers: an engine or the guard cannot be read. An unknown address may
   * belong to one of those. Undefined if it has all of them.
   */
  readonly incomplete: () => string | undefined;
  /** Lists each engine's running containers once; concurrent calls share one list. */
  readonly refresh: () => Promise<void>;
  readonly provenance: Pick<Provenance, "check">;
  /** Undefined without a guard: then there is no lock, and no address is a proof. */
  readonly locks: Locks | undefined;
  readonly callers: Pick<Callers, "of">;
  /** A monotonic clock in milliseconds. */
  readonly now: () => number;
};

export type IdentityNeeds = {
  /** Also wait until the process of an announced container is known; the proof needs it. */
  readonly started: boolean;
  /**
   * What must prove the caller. `socket` is remembered on the connection until the address's entry changes.
   * `address` is checked for each request, and is void at once when the lock or the entry changes.
   * `token` and `none` are not checked here.
   */
  readonly proof: ProofKind;
  /** How clients reach this listener. */
  readonly via: Via;
};

/**
 * Which container is at the other end of a connection.
 * Returns without a promise if everything is known: that is the hot path.
 */
export function identify(
  deps: IdentityDependencies,
  connection: Connection,
  needs: IdentityNeeds,
): Identity | Promise<Identity> {
  const lookup = deps.directory.at(connection.address ?? "");
  // A conflict is waited for, like an unknown address: the address may be moving from one container to the
  // next.
  const isSettled = lookup.kind === "container" && !(needs.started && isStarting(lookup.container));
  if (isSettled && isProven(deps, connection, lookup, needs.proof))
    return identityOf(deps, lookup, needs.proof);
  return waitAndProve(deps, connection, needs, isSettled ? lookup : undefined);
}

function isProven(
  deps: Pick<IdentityDependencies, "locks">,
  connection: Connection,
  lookup: ContainerLookup,
  proof: ProofKind,
): boolean {
  switch (proof) {
    case "socket":
      return connection.proven === lookup;
    case "address":
      return hasAddressProof(deps, lookup.container);
    default:
      return true;
  }
}

function hasAddressProof({ locks }: Pick<IdentityDependencies, "locks">, container: Container): boolean {
  return container.source === "static" || locks?.protectionOf(container.id).locked === true;
}

async function waitAndProve(
  deps: IdentityDependencies,
  connection: Connection,
  { proof, via }: IdentityNeeds,
  settled: ContainerLookup | undefined,
): Promise<Identity> {
  const address = connection.address ?? "";
  if (settled === undefined) await deps.listed;
  const until = deps.now() + newsWaitMs;
  const lookup = settled ?? (await waitForContainer(deps, address));
  if (lookup === "full") return tooManyWaiting(deps, address);
  if (lookup.kind !== "container" || isProven(deps, connection, lookup, proof))
    return identityOf(deps, lookup, proof);
  if (proof === "address") return waitForLock(deps, address, until);
  const next = await whileLockIsMade(deps, address, lookup, until);
  if (next === "full") return tooManyWaiting(deps, address);
  return next.kind === "container"
    ? proveBySocket(deps, connection, next, via)
    : identityOf(deps, next, proof);
}

/**
 * The socket proves the caller without a lock, but a neighbour could read the answer in transit. So an answer
 * waits for a lock that is being made, and is given without one where there is none.
 */
async function whileLockIsMade(
  deps: IdentityDependencies,
  address: string,
  first: ContainerLookup,
  until: number,
): Promise<Lookup | "full"> {
  let lookup: Lookup = first;
  while (lookup.kind === "container" && deps.locks?.protectionOf(lookup.container.id).pending === true) {
    const outcome = await deps.locks.news(lookup.container.id, Math.max(0, until - deps.now()));
    if (outcome === "full") return "full";
    if (outcome === "timeout") break;
    lookup = deps.directory.at(address);
  }
  return lookup;
}

async function proveBySocket(
  deps: IdentityDependencies,
  connection: Connection,
  lookup: ContainerLookup,
  via: Via,
): Promise<Identity> {
  const first = await deps.provenance.check(lookup.container, connection, via);
  if (first.proven) return proven(deps, connection, lookup);
  if (first.code !== "container-gone" && first.code !== "no-pid")
    return unproven(deps, lookup, await withEnd(first, connection));
  // The container is gone, but its engine has not reported it; the event stream may be down. List once, then
  // try the address's new owner.
  await deps.refresh();
  const next = deps.directory.at(connection.address ?? "");
  if (next === lookup || next.kind !== "container") return unproven(deps, lookup, first);
  const second = await deps.provenance.check(next.container, connection, via);
  return second.proven
    ? proven(deps, connection, next)
    : unproven(deps, next, await withEnd(second, connection));
}

/**
 * `no-such-socket` is the alert for spoofing, and a client that has given up must not raise it. Its socket is
 * then closed, or gone: the kernel forgets it after a minute, and a connection may have waited longer than
 * that for the service to start. On the other hand, a closed socket in the container's table is no excuse for
 * somebody who is still there.
 */
async function withEnd(refused: Unproven, connection: Connection): Promise<Unproven> {
  if (refused.code !== "no-such-socket" && refused.code !== "client-closed") return refused;
  // The table may show the end before our own socket has reported it.
  if (connection.end() === "open") await sleep(endedWithinMs);
  const end = connection.end();
  const hasGivenUp =
    end === "reset" || (end === "closed" && (refused.code === "client-closed" || connection.isEarly));
  if (!hasGivenUp) return { ...refused, code: "no-such-socket" };
  return refused.code === "client-closed"
    ? refused
    : { ...refused, code: "client-closed", reason: "the client has given up, and its socket is gone" };
}

/**
 * A lock comes into force milliseconds after its container has started. Meanwhile the address may get another
 * container, whose lock counts then.
 */
async function waitForLock(deps: IdentityDependencies, address: string, until: number): Promise<Identity> {
  for (;;) {
    const lookup = await deps.directory.waitFor(address, Math.max(0, until - deps.now()));
    if (lookup === "full") return tooManyWaiting(deps, address);
    if (lookup.kind !== "container" || hasAddressProof(deps, lookup.container))
      return identityOf(deps, lookup, "address");
    const { id } = lookup.container;
    const left = until - deps.now();
    const outcome = left <= 0 ? "timeout" : await deps.locks?.news(id, left);
    if (outcome === "full") return tooManyWaiting(deps, address);
    if (outcome !== "news") return notLocked(deps, lookup);
  }
}

/**
 * For a connection from an unknown address, of which nothing has been read yet: waits until a container has
 * the address. Resolves with the refusal if none gets it; never rejects.
 */
export async function awaitContainer(
  deps: IdentityDependencies,
  address: string,
): Promise<Unidentified | undefined> {
  const lookup = await waitForContainer(deps, address);
  if (lookup === "full") return tooManyWaiting(deps, address);
  const identity = lookup.kind === "unknown" ? identityOf(deps, lookup, "none") : undefined;
  return identity?.ok === false ? identity : undefined;
}

/**
 * After a restart many requests wait at once, perhaps all from one address. They wait for the first list
 * without a limit, and only then for a container that is not in it; the directory limits those.
 */
async function waitForContainer(deps: IdentityDependencies, address: string): Promise<Lookup | "full"> {
  await deps.listed;
  void deps.refresh();
  return deps.directory.waitFor(address, newsWaitMs);
}

/**
 * Whether the address's entry, or after a reload the caller's role request, is no longer what it was. A new
 * decision with the same result is no change.
 */
export function hasChanged(
  deps: Pick<IdentityDependencies, "directory" | "callers">,
  address: string,
  lookup: ContainerLookup,
  caller: Caller,
): boolean {
  return deps.directory.at(address) !== lookup || deps.callers.of(lookup.container).key !== caller.key;
}

/**
 * Undefined while the proof holds. Only the lock can be withdrawn without a change of the directory's entry,
 * for example while a role is being assumed.
 */
export function lostProof(
  deps: Pick<IdentityDependencies, "locks" | "callers">,
  { lookup, proof }: Identified,
): Unidentified | undefined {
  return proof === "address" && !hasAddressProof(deps, lookup.container)
    ? notLocked(deps, lookup)
    : undefined;
}

function identityOf(deps: IdentityDependencies, lookup: Lookup, needed: ProofKind): Identity {
  const incomplete = lookup.kind === "container" ? undefined : deps.incomplete();
  switch (lookup.kind) {
    case "container": {
      // There is no proof for a static container, whatever is configured.
      const proof = lookup.container.source === "static" ? "none" : needed;
      return { ok: true, lookup, caller: deps.callers.of(lookup.container), proof };
    }
    case "conflict": {
      const names = lookup.containers.map(({ name }) => name).join(", ");
      const reason = `several running containers have this address: ${names}`;
      // One of them may have stopped, if its engine cannot be reached.
      return incomplete === undefined
        ? unidentified("address-conflict", reason)
        : unidentified("engine-unavailable", `${reason}; one of them may have stopped: ${incomplete}`);
    }
    case "unknown":
      return incomplete === undefined
        ? unidentified("unknown-caller", "no running container has this address")
        : unidentified(
            "engine-unavailable",
            `no container is known to have this address, because not all are known: ${incomplete}`,
          );
  }
}

function unidentified(code: IdentityCode, reason: string, caller?: Caller): Unidentified {
  return { ok: false, code, reason, caller };
}

function tooManyWaiting(deps: IdentityDependencies, address: string): Unidentified {
  const lookup = deps.directory.at(address);
  const caller = lookup.kind === "container" ? deps.callers.of(lookup.container) : undefined;
  return unidentified(
    "too-many-waiting",
    "too many requests from this address wait for its container, or the container's port lock, to be known",
    caller,
  );
}

function notLocked(
  { locks, callers }: Pick<IdentityDependencies, "locks" | "callers">,
  { container }: ContainerLookup,
): Unidentified {
  const reason = locks?.protectionOf(container.id).reason ?? "this proxy runs without the guard";
  return unidentified(
    "address-not-locked",
    `the port lock is not in force for the container: ${reason}`,
    callers.of(container),
  );
}

/** Remembers the proof, unless the directory's entry changed while /proc was being read. */
function proven(deps: IdentityDependencies, connection: Connection, lookup: ContainerLookup): Identity {
  if (deps.directory.at(connection.address ?? "") !== lookup) {
    return unidentified(
      "caller-changed",
      "the address moved to another container while the caller was being identified",
      deps.callers.of(lookup.container),
    );
  }
  connection.proven = lookup;
  return identityOf(deps, lookup, "socket");
}

function unproven(
  deps: IdentityDependencies,
  lookup: ContainerLookup,
  { code, reason }: Unproven,
): Unidentified {
  return unidentified(code, reason, deps.callers.of(lookup.container));
}
