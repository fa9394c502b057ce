import { isStarting } from "../containers/container.ts";
import type { Directory, Lookup } from "../containers/directory.ts";
import type { Proof, Provenance, Via } from "../containers/provenance.ts";
import type { Caller, Callers } from "./callers.ts";
import type { Connection } from "./connection.ts";

/** How long a caller that is not known waits for the engine to name it: it started a moment ago. */
const unknownWaitMs = 2_000;

type ContainerLookup = Extract<Lookup, { kind: "container" }>;

/** Somebody who is not served. 403 is for those who are known to be nobody; SDKs take it for "no IMDSv2 here" and never ask again, so whoever may be served soon is told 503. */
export type NotKnown = {
  readonly known: false;
  readonly status: 403 | 503;
  readonly code:
    | Exclude<Proof, { proven: true }>["code"]
    | "unknown-caller"
    | "engine-unavailable"
    | "too-many-waiting"
    | "address-conflict"
    | "caller-changed";
  readonly reason: string;
  readonly caller: Caller | undefined;
};

export type Asker =
  | { readonly known: true; readonly lookup: ContainerLookup; readonly caller: Caller }
  | NotKnown;

export type IdentityDependencies = {
  readonly directory: Pick<Directory, "at" | "waitFor">;
  /** Settled when the engines' first lists are in, or will not come soon. Before that nobody can be said to be unknown. */
  readonly listed: Promise<void>;
  /** Whether every engine is followed at the moment. While one is not, an address that nobody has may be that of a container. */
  readonly complete: () => boolean;
  /** Asks the engines once what runs; coalesced. */
  readonly refresh: () => Promise<void>;
  readonly provenance: Pick<Provenance, "check">;
  readonly callers: Pick<Callers, "of">;
};

export type Wanted = {
  /** Also wait for the process of a container that the engine has announced, which a proof needs. */
  readonly starting: boolean;
  /** The client's socket must be one of the container's own; remembered on the connection until the address's entry changes. */
  readonly prove: boolean;
  /** How this listener's clients come to it. */
  readonly via: Via;
};

/**
 * Who is on the other end of a connection.
 * Answers at once, without a promise, where all is known: that is the hot path.
 */
export function askerOf(
  the: IdentityDependencies,
  connection: Connection,
  want: Wanted,
): Asker | Promise<Asker> {
  const lookup = the.directory.at(connection.address ?? "");
  // A conflict may be the moment in which an address changes hands: it is waited for, as an address is that nobody has yet.
  const settled = lookup.kind === "container" && !(want.starting && isStarting(lookup.container));
  if (settled && !(want.prove && connection.proven !== lookup)) return asker(the, lookup);
  return findOut(the, connection, want, settled ? lookup : undefined);
}

async function findOut(
  the: IdentityDependencies,
  connection: Connection,
  { prove, via }: Wanted,
  settled: Lookup | undefined,
): Promise<Asker> {
  const address = connection.address ?? "";
  const lookup = settled ?? (await wait(the, address));
  if (lookup === "full") return tooManyWaiting(the.directory.at(address), the);
  if (lookup.kind !== "container" || !prove || connection.proven === lookup) return asker(the, lookup);
  const first = await the.provenance.check(lookup.container, connection, via);
  if (first.proven) return remember(the, connection, lookup);
  if (first.code !== "container-gone" && first.code !== "no-pid") return unproven(the, lookup, first);
  // The container has gone and the engine, cut off perhaps, has not said so: ask it once, and try the address's new owner.
  await the.refresh();
  const now = the.directory.at(address);
  if (now === lookup || now.kind !== "container") return unproven(the, lookup, first);
  const second = await the.provenance.check(now.container, connection, via);
  return second.proven ? remember(the, connection, now) : unproven(the, now, second);
}

/**
 * Whether an address becomes a container's within a moment: for a connection of which not a byte was read yet. What to tell it if not.
 * Never rejects.
 */
export async function wordOf(the: IdentityDependencies, address: string): Promise<NotKnown | undefined> {
  const lookup = await wait(the, address);
  if (lookup === "full") return tooManyWaiting(the.directory.at(address), the);
  const found = lookup.kind === "unknown" ? asker(the, lookup) : undefined;
  return found?.known === false ? found : undefined;
}

/**
 * After a restart many wait at once, of one address too: all of them for the first list, and only then for word of a container that is
 * not in it, for which the directory lets few wait.
 */
async function wait(the: IdentityDependencies, address: string): Promise<Lookup | "full"> {
  await the.listed;
  void the.refresh();
  return the.directory.waitFor(address, unknownWaitMs);
}

/** Whether what was known of a caller has changed since: its address's entry, or, by a reload, what it may have. Decided again to the same end is no change. */
export function isStale(
  the: Pick<IdentityDependencies, "directory" | "callers">,
  address: string,
  lookup: ContainerLookup,
  caller: Caller,
): boolean {
  return the.directory.at(address) !== lookup || the.callers.of(lookup.container).key !== caller.key;
}

function asker(the: IdentityDependencies, lookup: Lookup): Asker {
  switch (lookup.kind) {
    case "container":
      return { known: true, lookup, caller: the.callers.of(lookup.container) };
    case "conflict": {
      const names = lookup.containers.map(({ name }) => name).join(", ");
      return {
        known: false,
        // While an engine cannot be asked, the one of them may be gone already.
        status: the.complete() ? 403 : 503,
        code: "address-conflict",
        reason: `several running containers have this address: ${names}`,
        caller: undefined,
      };
    }
    case "unknown": {
      if (the.complete()) {
        const reason = "no running container has this address";
        return { known: false, status: 403, code: "unknown-caller", reason, caller: undefined };
      }
      const reason = "no container is known to have this address, and an engine cannot be asked";
      return { known: false, status: 503, code: "engine-unavailable", reason, caller: undefined };
    }
  }
}

function tooManyWaiting(lookup: Lookup, the: IdentityDependencies): NotKnown {
  const caller = lookup.kind === "container" ? the.callers.of(lookup.container) : undefined;
  const reason = "too many requests of this address already wait for the engine to name its container";
  return { known: false, status: 503, code: "too-many-waiting", reason, caller };
}

function remember(the: IdentityDependencies, connection: Connection, lookup: ContainerLookup): Asker {
  // The directory may have learnt something while /proc was read; what was proven must still be what it says.
  if (the.directory.at(connection.address ?? "") !== lookup) {
    const reason = "the address changed hands while the caller was being identified";
    const caller = the.callers.of(lookup.container);
    return { known: false, status: 503, code: "caller-changed", reason, caller };
  }
  connection.proven = lookup;
  return asker(the, lookup);
}

function unproven(
  the: IdentityDependencies,
  lookup: ContainerLookup,
  proof: Extract<Proof, { proven: false }>,
): NotKnown {
  const { code, reason } = proof;
  // Of two of these the engine has more to say in a moment: about the container that has the address now, or the process of this one. And a
  // table that cannot be read now, since there is no descriptor or memory to spare, can be read later.
  const status = code === "no-such-socket" || code === "port-listening" ? 403 : 503;
  return { known: false, status, code, reason, caller: the.callers.of(lookup.container) };
}
