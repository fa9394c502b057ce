import { isDeepStrictEqual } from "node:util";
import { addressesOf, type Container, isStarting } from "./container.ts";

/**
 * Who has an address. The object for an address is the same one until its entry changes, so `===` tells whether what was
 * concluded from it still holds.
 */
export type Lookup =
  | { readonly kind: "container"; readonly container: Container }
  /** More than one running container has the address: none of them is answered until that is resolved. */
  | { readonly kind: "conflict"; readonly containers: readonly Container[] }
  | { readonly kind: "unknown" };

const unknown: Lookup = Object.freeze({ kind: "unknown" });
/** Who waits for one address. How many addresses are waited for is bounded by who lets strangers wait: imds/strangers.ts. */
const maxWaitersAnAddress = 64;

type Waiter = { readonly settle: () => void };

/**
 * Which container has which address, in memory. Engines write (`watch.ts`), requests read.
 * Containers are kept by owner (one engine, or the static ones) and id, so losing one engine leaves the others' entries.
 */
export class Directory {
  readonly #byOwner = new Map<string, Map<string, Container>>();
  /** By address, then by owner and id: all that say they have it. */
  readonly #claims = new Map<string, Map<string, Container>>();
  readonly #byAddress = new Map<string, Lookup>();
  readonly #waiters = new Map<string, Set<Waiter>>();

  constructor(options: { statics?: readonly Container[] } = {}) {
    this.setStatics(options.statics ?? []);
  }

  /** Takes a canonical address (`canonicalAddress`). One Map look-up. */
  at(address: string): Lookup {
    return this.#byAddress.get(address) ?? unknown;
  }

  /**
   * Settles as soon as the address has a container whose process is known, or a static one; else after `timeoutMs` or on abort, with
   * what is there then. `"full"`, at once, where very many wait for this address already: that says nothing about whose it is.
   * A conflict is waited for as well: it may be the moment in which an address changes hands. Never rejects.
   */
  waitFor(address: string, timeoutMs: number, signal?: AbortSignal): Promise<Lookup | "full"> {
    const now = this.at(address);
    if (isSettled(now) || signal?.aborted === true) return Promise.resolve(now);
    const queue = this.#waiters.get(address) ?? new Set();
    if (queue.size >= maxWaitersAnAddress) return Promise.resolve("full");
    return new Promise((resolve) => {
      const settle = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", settle);
        queue.delete(waiter);
        if (queue.size === 0 && this.#waiters.get(address) === queue) this.#waiters.delete(address);
        resolve(this.at(address));
      };
      const waiter = { settle };
      const timer = setTimeout(settle, timeoutMs);
      signal?.addEventListener("abort", settle, { once: true });
      queue.add(waiter);
      this.#waiters.set(address, queue);
    });
  }

  /** Those that an operator may mean: of this name or id exactly, else of ids that begin so. */
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

  /** Replaces the declared containers; those that stay equal keep their entries' identity. */
  setStatics(statics: readonly Container[]): void {
    const wanted = new Map(statics.map((container) => [container.id, container]));
    for (const id of [...this.owned(staticOwner).keys()]) if (!wanted.has(id)) this.remove(staticOwner, id);
    for (const container of wanted.values()) this.upsert(staticOwner, container);
  }

  /** Returns false where an equal container was there already; then nothing changes, and no proof is void. */
  upsert(owner: string, container: Container): boolean {
    const owned = this.#byOwner.get(owner) ?? new Map<string, Container>();
    const before = owned.get(container.id);
    if (isDeepStrictEqual(before, container)) return false;
    owned.set(container.id, container);
    this.#byOwner.set(owner, owned);
    this.#move(`${owner} ${container.id}`, before, container);
    return true;
  }

  /** Removes the entry of this id, and no other that may have its address by now. */
  remove(owner: string, id: string): Container | undefined {
    const before = this.#byOwner.get(owner)?.get(id);
    if (before === undefined) return undefined;
    this.#byOwner.get(owner)?.delete(id);
    this.#move(`${owner} ${id}`, before, undefined);
    return before;
  }

  #move(claimant: string, before: Container | undefined, after: Container | undefined): void {
    const left = before === undefined ? [] : addressesOf(before);
    const taken = after === undefined ? [] : addressesOf(after);
    for (const address of left) this.#claims.get(address)?.delete(claimant);
    for (const address of taken) {
      const claims = this.#claims.get(address) ?? new Map<string, Container>();
      if (after !== undefined) this.#claims.set(address, claims.set(claimant, after));
    }
    for (const address of new Set([...left, ...taken])) this.#judge(address);
  }

  #judge(address: string): void {
    // Two names of one engine (/run/docker.sock and /var/run/docker.sock) tell of the same container: that is no conflict.
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
    if (isSettled(lookup)) for (const { settle } of [...(this.#waiters.get(address) ?? [])]) settle();
  }
}

/** Nothing is gained by waiting. */
function isSettled(lookup: Lookup): boolean {
  return lookup.kind === "container" && !isStarting(lookup.container);
}

/** No engine's host can be written so. */
const staticOwner = "staticContainers";

/** A container that `staticContainers` declares at a canonical address. There is no process to ask: provenance takes the operator's word. */
export function staticContainer(address: string, declared: { name: string; alias?: string }): Container {
  const isIpv6 = address.includes(":");
  return {
    id: `static:${address}`,
    name: declared.name,
    image: "",
    imageId: "",
    labels: {},
    env: {},
    user: "",
    attachments: [
      { network: "static", ipv4: isIpv6 ? undefined : address, ipv6: isIpv6 ? address : undefined },
    ],
    pid: 0,
    risks: [],
    source: "static",
    ...(declared.alias === undefined ? {} : { staticAlias: declared.alias }),
  };
}
