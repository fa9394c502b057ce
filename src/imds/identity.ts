import { isStarting } from "../containers/container.ts";
import type { Directory, Lookup } from "../containers/directory.ts";
import type { Proof, Provenance } from "../containers/provenance.ts";
import type { Caller, Callers } from "./callers.ts";
import type { Connection } from "./connection.ts";

/** How long a caller that is not known waits for the engine to name it: it started a moment ago. */
const unknownWaitMs = 2_000;

type ContainerLookup = Extract<Lookup, { kind: "container" }>;

export type Asker =
  | { readonly known: true; readonly lookup: ContainerLookup; readonly caller: Caller }
  | {
      readonly known: false;
      readonly code: string;
      readonly reason: string;
      readonly caller: Caller | undefined;
    };

export type IdentityDependencies = {
  readonly directory: Pick<Directory, "at" | "waitFor">;
  /** Settled when the engines' first lists are in, or will not come soon. Before that nobody can be said to be unknown. */
  readonly listed: Promise<void>;
  /** Asks the engines once what runs; coalesced. */
  readonly refresh: () => Promise<void>;
  readonly provenance: Pick<Provenance, "check">;
  readonly callers: Pick<Callers, "of">;
};

/**
 * Who is on the other end of a connection.
 * `starting`: also wait for the process of a container that the engine has announced, which a proof needs.
 * `prove`: the client's socket must be one of the container's own; remembered on the connection until the address's entry changes.
 * Answers at once, without a promise, where all is known: that is the hot path.
 */
export function askerOf(
  the: IdentityDependencies,
  connection: Connection,
  want: { readonly starting: boolean; readonly prove: boolean },
): Asker | Promise<Asker> {
  const lookup = the.directory.at(connection.address ?? "");
  // A conflict may be the moment in which an address changes hands: it is waited for, as an address is that nobody has yet.
  const settled = lookup.kind === "container" && !(want.starting && isStarting(lookup.container));
  if (settled && !(want.prove && connection.proven !== lookup)) return asker(the, lookup);
  return findOut(the, connection, want.prove, settled ? lookup : undefined);
}

async function findOut(
  the: IdentityDependencies,
  connection: Connection,
  prove: boolean,
  settled: Lookup | undefined,
): Promise<Asker> {
  const address = connection.address ?? "";
  const lookup = settled ?? (await wait(the, address));
  if (lookup.kind !== "container" || !prove || connection.proven === lookup) return asker(the, lookup);
  const first = await the.provenance.check(lookup.container, connection);
  if (first.proven) return remember(the, connection, lookup);
  if (first.code !== "container-gone" && first.code !== "no-pid") return unproven(the, lookup, first);
  // The container has gone and the engine, cut off perhaps, has not said so: ask it once, and try the address's new owner.
  await the.refresh();
  const now = the.directory.at(address);
  if (now === lookup || now.kind !== "container") return unproven(the, lookup, first);
  const second = await the.provenance.check(now.container, connection);
  return second.proven ? remember(the, connection, now) : unproven(the, now, second);
}

/**
 * After a restart many wait at once, of one address too: all of them for the first list, and only then for word of a container that is
 * not in it, for which the directory lets few wait.
 */
async function wait(the: IdentityDependencies, address: string): Promise<Lookup> {
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
        code: "address-conflict",
        reason: `several running containers have this address: ${names}`,
        caller: undefined,
      };
    }
    case "unknown":
      return {
        known: false,
        code: "unknown-caller",
        reason: "no running container has this address",
        caller: undefined,
      };
  }
}

function remember(the: IdentityDependencies, connection: Connection, lookup: ContainerLookup): Asker {
  // The directory may have learnt something while /proc was read; what was proven must still be what it says.
  if (the.directory.at(connection.address ?? "") !== lookup) {
    const reason = "the address changed hands while the caller was being identified";
    return { known: false, code: "caller-changed", reason, caller: the.callers.of(lookup.container) };
  }
  connection.proven = lookup;
  return asker(the, lookup);
}

function unproven(
  the: IdentityDependencies,
  lookup: ContainerLookup,
  proof: Extract<Proof, { proven: false }>,
): Asker {
  return { known: false, code: proof.code, reason: proof.reason, caller: the.callers.of(lookup.container) };
}
