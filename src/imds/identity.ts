import { isStarting } from "../containers/container.ts";
import type { Directory, Lookup } from "../containers/directory.ts";
import type { Proof, Provenance, Via } from "../containers/provenance.ts";
import type { Caller, Callers } from "./callers.ts";
import type { Connection } from "./connection.ts";
import type { IdentityCode } from "./refusals.ts";

/**
 * How long a request from an unknown address waits for the engine to name its container, which may have just
 * started.
 */
const unknownWaitMs = 2_000;

type ContainerLookup = Extract<Lookup, { kind: "container" }>;

export type Identified = { readonly ok: true; readonly lookup: ContainerLookup; readonly caller: Caller };

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
   * Whether every engine is being followed. While one is not, an unknown address may belong to one of its
   * containers.
   */
  readonly complete: () => boolean;
  /** Lists each engine's running containers once; concurrent calls share one list. */
  readonly refresh: () => Promise<void>;
  readonly provenance: Pick<Provenance, "check">;
  readonly callers: Pick<Callers, "of">;
};

export type IdentityNeeds = {
  /** Also wait until the process of an announced container is known; the proof needs it. */
  readonly started: boolean;
  /**
   * The client's socket must be the container's own. Remembered on the connection until the address's entry
   * changes.
   */
  readonly proof: boolean;
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
  if (isSettled && !(needs.proof && connection.proven !== lookup)) return identityOf(deps, lookup);
  return waitAndProve(deps, connection, needs, isSettled ? lookup : undefined);
}

async function waitAndProve(
  deps: IdentityDependencies,
  connection: Connection,
  { proof, via }: IdentityNeeds,
  settled: Lookup | undefined,
): Promise<Identity> {
  const address = connection.address ?? "";
  const lookup = settled ?? (await waitForContainer(deps, address));
  if (lookup === "full") return tooManyWaiting(deps, address);
  if (lookup.kind !== "container" || !proof || connection.proven === lookup) return identityOf(deps, lookup);
  const first = await deps.provenance.check(lookup.container, connection, via);
  if (first.proven) return proven(deps, connection, lookup);
  if (first.code !== "container-gone" && first.code !== "no-pid") return unproven(deps, lookup, first);
  // The container is gone, but its engine has not reported it; the event stream may be down. List once, then
  // try the address's new owner.
  await deps.refresh();
  const next = deps.directory.at(address);
  if (next === lookup || next.kind !== "container") return unproven(deps, lookup, first);
  const second = await deps.provenance.check(next.container, connection, via);
  return second.proven ? proven(deps, connection, next) : unproven(deps, next, second);
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
  const identity = lookup.kind === "unknown" ? identityOf(deps, lookup) : undefined;
  return identity?.ok === false ? identity : undefined;
}

/**
 * After a restart many requests wait at once, perhaps all from one address. They wait for the first list
 * without a limit, and only then for a container that is not in it; the directory limits those.
 */
async function waitForContainer(deps: IdentityDependencies, address: string): Promise<Lookup | "full"> {
  await deps.listed;
  void deps.refresh();
  return deps.directory.waitFor(address, unknownWaitMs);
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

function identityOf(deps: IdentityDependencies, lookup: Lookup): Identity {
  switch (lookup.kind) {
    case "container":
      return { ok: true, lookup, caller: deps.callers.of(lookup.container) };
    case "conflict": {
      const names = lookup.containers.map(({ name }) => name).join(", ");
      const reason = `several running containers have this address: ${names}`;
      // One of them may have stopped, if its engine cannot be reached.
      return deps.complete()
        ? unidentified("address-conflict", reason)
        : unidentified("engine-unavailable", `${reason}; an engine cannot be reached`);
    }
    case "unknown":
      return deps.complete()
        ? unidentified("unknown-caller", "no running container has this address")
        : unidentified(
            "engine-unavailable",
            "no container is known to have this address, and an engine cannot be reached",
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
    "too many requests from this address wait for an engine to name its container",
    caller,
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
  return identityOf(deps, lookup);
}

function unproven(
  deps: IdentityDependencies,
  lookup: ContainerLookup,
  { code, reason }: Extract<Proof, { proven: false }>,
): Unidentified {
  return unidentified(code, reason, deps.callers.of(lookup.container));
}
