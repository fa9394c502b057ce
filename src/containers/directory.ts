import { isDeepStrictEqual } from "node:util";
import { addressesOf, type Container, isStarting } from "./container.ts";

/**
 * Who has an address. A lookup returns the same object until the entry changes, so `===` tells whether a
 * conclusion drawn from it still holds.
 */
export type Lookup =
  | { readonly kind: "container"; readonly container: Container }
  /** More than one running container has the address: none of them is served until that is resolved. */
  | { readonly kind: "conflict"; readonly containers: readonly Container[] }
  | { readonly kind: "unknown" };

const unknown: Lookup = Object.freeze({ kind: "unknown" });
/** The number of addresses with waiters is limited elsewhere: imds/strangers.ts. */
const maxWaitersPerAddress = 64;

/**
 * Which container has which address, in memory. The engines write (engine/sync.ts), requests read. Containers
 * are stored by owner (an engine, or the static containers) and id, so losing one engine keeps the others'.
 */
export class Directory {
  readonly #byOwner = new Map<string, Map<string, Container>>();
  /** By address, then by owner and id: every container that has the address. */
  readonly #claims = new Map<string, Map<string, Container>>();
  readonly #byAddress = new Map<string, Lookup>();
  /** By address: ends a wait. */
  readonly #waiters = new Map<string, Set<() => void>>();

  constructor(options: { statics?: readonly Container[] } = {}) {
    this.setStatics(options.statics ?? []);
  }

  /** Takes a canonical address (`canonicalAddress`). One Map lookup. */
  at(address: string): Lookup {
    return this.#byAddress.get(address) ?? unknown;
  }

  /**
   * Resolves as soon as the address has a static container or one whose process is known, and after
   * `timeoutMs` with whatever is there then. Also waits during a conflict, which may be the moment when an
   * address changes hands. Resolves with `"full"` at once if too many callers already wait for this address;
   * that says nothing about who has it. Never rejects.
   */
  waitFor(address: string, timeoutMs: number): Promise<Lookup | "full"> {
    const now = this.at(address);
    if (isSettled(now)) return Promise.resolve(now);
    const waiters = this.#waiters.get(address) ?? new Set();
    if (waiters.size >= maxWaitersPerAddress) return Promise.resolve("full");
    return new Promise((resolve) => {
      const settle = () => {
        clearTimeout(timer);
        waiters.delete(settle);
        if (waiters.size === 0 && this.#waiters.get(address) === waiters) this.#waiters.delete(address);
        resolve(this.at(address));
      };
      const timer = setTimeout(settle, timeoutMs);
      waiters.add(settle);
      this.#waiters.set(address, waiters);
    });
  }

  /** The containers that an operator may mean: an exact name or id, otherwise every id with this prefix. */
  byId(idOrName: string): Container[] {
    const all = this.containers();
    const exact = all.filter(({ id, name }) => id === idOrName || name === idOrName);
    if (exact.length > 0 || idOrName === "") return exact;
    return all.filter(({ id }) => id.startsWith(idOrName));
  }

  containers(): readonly Container[] {
    return [...this.#byOwner.values()].flatMap((owned) => [...owned.values()]);
  }

  /** The containers of one owner by id. */
  owned(owner: string): ReadonlyMap<string, Container> {
    return this.#byOwner.get(owner) ?? new Map();
  }

  /** Replaces the static containers. Entries that are equal stay the same objects. */
  setStatics(statics: readonly Container[]): void {
    const wanted = new Map(statics.map((container) => [container.id, container]));
    for (const id of [...this.owned(staticOwner).keys()]) if (!wanted.has(id)) this.remove(staticOwner, id);
    for (const container of wanted.values()) this.upsert(staticOwner, container);
  }

  /**
   * Returns false if an equal container is already there. Then nothing changes and earlier proofs still hold.
   */
  upsert(owner: string, container: Container): boolean {
    const owned = this.#byOwner.get(owner) ?? new Map<string, Container>();
    const before = owned.get(container.id);
    if (isDeepStrictEqual(before, container)) return false;
    owned.set(container.id, container);
    this.#byOwner.set(owner, owned);
    this.#updateAddresses(`${owner} ${container.id}`, before, container);
    return true;
  }

  /** Removes the entry with this id. Another container that has its address by now is not affected. */
  remove(owner: string, id: string): Container | undefined {
    const before = this.#byOwner.get(owner)?.get(id);
    if (before === undefined) return undefined;
    this.#byOwner.get(owner)?.delete(id);
    this.#updateAddresses(`${owner} ${id}`, before, undefined);
    return before;
  }

  #updateAddresses(claimant: string, before: Container | undefined, after: Container | undefined): void {
    const left = before === undefined ? [] : addressesOf(before);
    const taken = after === undefined ? [] : addressesOf(after);
    for (const address of left) this.#claims.get(address)?.delete(claimant);
    for (const address of taken) {
      const claims = this.#claims.get(address) ?? new Map<string, Container>();
      if (after !== undefined) this.#claims.set(address, claims.set(claimant, after));
    }
    for (const address of new Set([...left, ...taken])) this.#updateLookup(address);
  }

  #updateLookup(address: string): void {
    // One engine under two names (/run/docker.sock, /var/run/docker.sock) is not a conflict with itself.
    const claims = new Map([...(this.#claims.get(address)?.values() ?? [])].map((one) => [one.id, one]));
    const [only] = claims.values();
    if (only === undefined) {
      this.#claims.delete(address);
      this.#byAddress.delete(address);
      return;
    }
    const lookup: Lookup =
      claims.size > 1
        ? { kind: "conflict", containers: [...claims.values()] }
        : { kind: "container", container: only };
    this.#byAddress.set(address, lookup);
    if (isSettled(lookup)) for (const settle of [...(this.#waiters.get(address) ?? [])]) settle();
  }
}

/** There is nothing to wait for. */
function isSettled(lookup: Lookup): boolean {
  return lookup.kind === "container" && !isStarting(lookup.container);
}

/** Not a valid engine host, so it cannot collide with one. */
const staticOwner = "staticContainers";
