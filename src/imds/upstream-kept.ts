import type { Answer } from "./answers.ts";

export type KeptLimits = { readonly entries: number; readonly bytes: number };

type Entry = {
  readonly path: string;
  readonly answer: Answer;
  /** Milliseconds. */
  readonly until: number;
  readonly cost: number;
  /** The container that asked, whose quota it counts against; undefined for the proxy itself. */
  readonly owner: string | undefined;
  /** Used by another container too: it stays until it expires. */
  shared: boolean;
};

type Quota = { readonly entries: Set<Entry>; bytes: number };

/** Memory of an entry besides its body. */
const overheadBytes = 1024;
/** Expired entries are searched for at most this often. */
const sweepEveryMs = 1000;

/**
 * Answers that are cached for a limited time. Each container has a quota; beyond it, its oldest answers that
 * no other container uses are evicted. If there is no room in total, a new answer is not cached. So no
 * request of one container evicts what another one uses; an LRU cache would, which is why this is not one.
 */
export class KeptAnswers {
  readonly #now: () => number;
  readonly #each: KeptLimits;
  readonly #total: KeptLimits;
  readonly #entries = new Map<string, Entry>();
  readonly #quotas = new Map<string | undefined, Quota>();
  #bytes = 0;
  #sweptAt = Number.NEGATIVE_INFINITY;

  constructor(options: {
    readonly now: () => number;
    readonly each: KeptLimits;
    readonly total: KeptLimits;
  }) {
    this.#now = options.now;
    this.#each = options.each;
    this.#total = options.total;
  }

  get(path: string, container: string | undefined): Answer | undefined {
    const entry = this.#entries.get(path);
    if (entry === undefined) return undefined;
    if (this.#now() < entry.until) {
      if (entry.owner !== container) entry.shared = true;
      return entry.answer;
    }
    this.#drop(entry);
    return undefined;
  }

  /** @param shared whether containers other than the owner asked at the same time */
  keep(path: string, answer: Answer, forMs: number, owner: string | undefined, shared: boolean): void {
    const cost = overheadBytes + answer.body.length;
    if (cost > this.#each.bytes / 16) return;
    const old = this.#entries.get(path);
    if (old !== undefined) this.#drop(old);
    if (!this.#makeRoom(cost, owner)) return;
    const entry = { path, answer, until: this.#now() + forMs, cost, owner, shared };
    const quota = this.#quotas.get(owner) ?? { entries: new Set(), bytes: 0 };
    this.#quotas.set(owner, quota);
    quota.entries.add(entry);
    quota.bytes += cost;
    this.#entries.set(path, entry);
    this.#bytes += cost;
  }

  #makeRoom(cost: number, owner: string | undefined): boolean {
    const quota = this.#quotas.get(owner);
    const full = (held: { readonly size: number }, bytes: number, limits: KeptLimits) =>
      held.size + 1 > limits.entries || bytes + cost > limits.bytes;
    const ownFull = () => quota !== undefined && full(quota.entries, quota.bytes, this.#each);
    const allFull = () => full(this.#entries, this.#bytes, this.#total);
    if (ownFull() || allFull()) this.#sweep();
    for (const entry of quota?.entries ?? []) {
      if (!ownFull() && !allFull()) break;
      if (!entry.shared) this.#drop(entry);
    }
    return !ownFull() && !allFull();
  }

  #sweep(): void {
    const now = this.#now();
    if (now - this.#sweptAt < sweepEveryMs) return;
    this.#sweptAt = now;
    for (const entry of this.#entries.values()) if (now >= entry.until) this.#drop(entry);
  }

  #drop(entry: Entry): void {
    this.#entries.delete(entry.path);
    this.#bytes -= entry.cost;
    const quota = this.#quotas.get(entry.owner);
    if (quota === undefined) return;
    quota.entries.delete(entry);
    quota.bytes -= entry.cost;
    if (quota.entries.size === 0) this.#quotas.delete(entry.owner);
  }
}
