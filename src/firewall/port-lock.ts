import { isDeepStrictEqual } from "node:util";
import { explain } from "../errors.ts";
import { TokenBucket } from "../token-bucket.ts";
import { stopLinkLocalLearning } from "./bridge-learning.ts";
import type { Port } from "./bridge-ports.ts";
import { failure } from "./command.ts";
import { findPorts, type Located, type Surroundings } from "./find-ports.ts";
import { isInterfaceName } from "./interface-name.ts";
import {
  aliveSeconds,
  type FormerElement,
  type LockElements,
  type LockEntry,
  lockElements,
  lockTable,
  renderLockChange,
  renderLockTable,
  renderNoLockTable,
} from "./lock-table.ts";
import { forgetNeighbours, type NeighbourEntry } from "./neighbours.ts";

/** What to lock for a container. */
export type LockTarget = {
  readonly macs: readonly string[];
  readonly addresses: readonly string[];
  /** Its first process, in the host's pid namespace; 0 while it has none. */
  readonly pid: number;
  /** As in Container. Undefined if this host has no such process. */
  readonly pidStartedAt: number | undefined;
  /** Why the lock cannot be complete for it, whatever ports it has. Undefined if it can. */
  readonly obstacle: string | undefined;
};

/** Whether the lock is in force for all of a container's addresses. */
export type Protection =
  | { readonly locked: true }
  /** `reason` completes "the lock is not in force for it: ..." */
  | {
      readonly locked: false;
      readonly reason: string;
      /** It is being made: whether it comes into force is known in a moment. */
      readonly isPending?: true;
    };

type Options = Surroundings & {
  /** Called when the protection of containers has changed, except by `set` and `delete`. */
  readonly onChange: (ids: readonly string[]) => void;
  /** Called after each failure, and with undefined when the table is right again. */
  readonly onTrouble: (error: string | undefined) => void;
  /** @returns a function that cancels */
  readonly schedule: (delayMs: number, act: () => void) => () => void;
  readonly random: () => number;
  /** A monotonic clock in milliseconds. */
  readonly now: () => number;
};

type Tracked = Located & {
  readonly target: LockTarget;
  /** Whether `ports` is up to date. */
  looked: boolean;
  /** The neighbour entries that were removed since the lock is in force without a break: `address bridge`. */
  cleared: ReadonlySet<string>;
  protection: Protection;
};

const starting: Protection = { locked: false, reason: "it has not started yet", isPending: true };
const notYet: Protection = { locked: false, reason: "the lock is being made", isPending: true };
/** As many failures in a row are no reason yet to do without the lock. */
const passingFailures = 3;
/** A port that has been on a bridge for this long without a container is not one of a starting container. */
const strangerAfterMs = 5_000;

/** Also a limit on us, should a version of nft print our mark in a way that we do not recognise. */
const rebuildsPerSecond = 2;
const retryMs = { first: 1_000, longestLook: 2_000, longest: 60_000 };

/**
 * Makes the kernel's lock table agree with the containers. Changes that arrive while a transaction is being
 * made go into the next one together.
 */
export class PortLock {
  readonly #options: Options;
  readonly #tracked = new Map<string, Tracked>();
  /**
   * What the kernel has, or will have after the transaction in flight. Undefined if that is not known, which
   * can become so during a transaction.
   */
  #live: LockElements | undefined;
  /** When the last whole table was written, on the clock of the options. */
  #renewedAt = Number.NEGATIVE_INFINITY;
  #off: string | undefined;
  #isStarted = false;
  #isDirty = false;
  /** What a former guard's table has for containers that are not known yet. */
  #former: readonly FormerElement[] = [];
  /** When each port of a bridge was first seen, by its index. */
  #seen: ReadonlyMap<number, number> = new Map();
  #isSeen = false;
  /** Bridges that learn no addresses from frames which the lock does not see. */
  #notLearning: ReadonlySet<string> = new Set();
  /** The table may have addresses of containers that have ended. */
  #hasEnded = false;
  #isWorking = false;
  #work: Promise<void> = Promise.resolve();
  #failures = 0;
  #cancelRetry: (() => void) | undefined;
  #isClosed = false;
  readonly #rebuilds: TokenBucket;
  #cancelRebuild: (() => void) | undefined;
  /** The numbers of this process's transactions: from the first up to, but not including, the next. */
  readonly #firstMark: number;
  #nextMark: number;

  constructor(options: Options) {
    this.#options = options;
    this.#rebuilds = new TokenBucket(rebuildsPerSecond, options.now());
    this.#firstMark = Math.floor(options.random() * 2 ** 31);
    this.#nextMark = this.#firstMark;
  }

  protectionOf(id: string): Protection {
    return this.#tracked.get(id)?.protection ?? notYet;
  }

  /**
   * Begins to change the kernel's table. Call it when the containers are known: the first transaction
   * replaces the table that a former guard has left in force.
   * @param former what stays in force of that table until a container is known to have the address, or its
   *   port is gone
   */
  start(former: readonly FormerElement[] = []): void {
    this.#isStarted = true;
    this.#former = former;
    this.#change();
  }

  /** Every container is known. */
  forgetFormer(): void {
    if (this.#former.length === 0) return;
    this.#former = [];
    this.#change();
  }

  /** Locks a container's addresses. For a container with another target, the lock is made anew. */
  set(id: string, target: LockTarget): void {
    const before = this.#tracked.get(id);
    if (before !== undefined && isDeepStrictEqual(before.target, target)) return;
    const isSameProcess =
      before?.target.pid === target.pid && before.target.pidStartedAt === target.pidStartedAt;
    this.#tracked.set(id, {
      target,
      // Also if its process seems to have ended: a container must not shed the lock by what its process does.
      ports: before?.ports,
      looked: false,
      namespaceId: isSameProcess ? before.namespaceId : undefined,
      // An address that it has lost meanwhile may have been used by another container.
      cleared: isSameProcess ? kept(before.cleared, entriesOf({ target, ports: before.ports })) : new Set(),
      // Not the former protection: the lock is not in force for the new addresses.
      protection: target.pid === 0 ? starting : notYet,
    });
    this.#change();
  }

  /** Unlocks the addresses of a container that has ended. */
  delete(id: string): void {
    if (!this.#tracked.delete(id)) return;
    this.#hasEnded = true;
    this.#change();
  }

  /** Makes no lock, and removes the table, as long as there is a reason not to. */
  switchOff(reason: string | undefined): void {
    if (reason === this.#off) return;
    this.#off = reason;
    this.rebuild();
  }

  /** Writes the whole table: it is not known what is in force. */
  rebuild(): void {
    this.#lose();
    this.lookAgain();
  }

  /** Looks for the containers' ports again: links have changed. */
  lookAgain(): void {
    for (const tracked of this.#tracked.values()) tracked.looked = false;
    this.#isSeen = false;
    this.#change();
  }

  /** Resolves when the kernel has everything that was requested before this call, or when that failed. */
  async settled(): Promise<void> {
    while (this.#isWorking) await this.#work;
  }

  /**
   * Keeps the lock from lapsing. To be called well within `aliveSeconds`. Writes the whole table, because a
   * change of it may have been missed, and a table with the addresses of ended containers should lapse.
   */
  async refresh(): Promise<void> {
    if (this.#off !== undefined || this.#isClosed || !this.#isStarted) return;
    if (this.#options.now() - this.#renewedAt < aliveSeconds * 1_000) {
      this.#live = undefined;
      this.#change();
    } else {
      // It may have lapsed meanwhile.
      this.rebuild();
    }
    await this.settled();
  }

  /** A transaction has changed the table. @param marks its marks: if they are ours, so is the transaction */
  changedBy(marks: readonly number[]): void {
    const isOwn = (mark: number) => mark >= this.#firstMark && mark < this.#nextMark;
    // Without a table there is nothing to repair, and its removal has no mark.
    if (this.#off !== undefined || (marks.length > 0 && marks.every(isOwn))) return;
    if (this.#cancelRebuild !== undefined || this.#isClosed) return;
    const now = this.#options.now();
    const delayMs = this.#rebuilds.delay(now);
    if (delayMs === 0) {
      this.#rebuilds.take();
      this.rebuild();
      return;
    }
    this.#cancelRebuild = this.#options.schedule(delayMs, () => {
      this.#cancelRebuild = undefined;
      this.changedBy([]);
    });
  }

  /** Makes no more changes. What is in force stays. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancelRetry?.();
    this.#cancelRebuild?.();
    await this.settled();
  }

  /** The lock may not be in force, and the host may learn a container's address from a forged frame. */
  #lose(): void {
    this.#live = undefined;
    for (const tracked of this.#tracked.values()) tracked.cleared = new Set();
  }

  #mark(): number {
    return this.#nextMark++;
  }

  #change(): void {
    this.#isDirty = true;
    this.#cancelRetry?.();
    this.#cancelRetry = undefined;
    if (this.#isWorking || this.#isClosed || !this.#isStarted) return;
    this.#isWorking = true;
    this.#work = this.#makeTrue();
  }

  /** Never rejects. */
  async #makeTrue(): Promise<void> {
    // Events that arrive together are handled in one transaction.
    await Promise.resolve();
    while (this.#isDirty && !this.#isClosed) {
      this.#isDirty = false;
      try {
        const trouble = await this.#makeOnce();
        this.#options.onTrouble(trouble);
        if (trouble === undefined) this.#failures = 0;
        else this.#retryLater(retryMs.longestLook);
      } catch (error) {
        this.#lose();
        const reason = explain(error);
        const pending = this.#maySucceed();
        this.#protect([...this.#tracked.values()], () => ({ locked: false, reason, ...pending }));
        this.#options.onTrouble(reason);
        this.#retryLater(retryMs.longest);
      }
    }
    // In the same turn as the last look at #isDirty: a change after that starts the work again.
    this.#isWorking = false;
  }

  /** A failure may be a passing one, which is over before an answer has waited for long. */
  #maySucceed(): { readonly isPending?: true } {
    return this.#failures < passingFailures ? { isPending: true } : {};
  }

  #retryLater(longestMs: number): void {
    const delayMs = Math.min(longestMs, retryMs.first * 2 ** Math.min(this.#failures, 10));
    this.#failures += 1;
    // A change that has arrived meanwhile does not wait for that.
    if (!this.#isDirty) this.#cancelRetry = this.#options.schedule(delayMs, () => this.#change());
  }

  /** @returns why some containers could not be found; the others are locked */
  async #makeOnce(): Promise<string | undefined> {
    const off = this.#off;
    if (off !== undefined) {
      await this.#transact(renderNoLockTable());
      this.#lose();
      this.#protect([...this.#tracked.values()], () => ({ locked: false, reason: off }));
      return undefined;
    }
    const wanted = [...this.#tracked.values()].filter(({ target, looked }) => isToBeFound(target) && !looked);
    // Their addresses may have new owners, who must not wait for the look. Without a table there is nothing
    // to free, and a whole one should have the ports.
    if (wanted.length > 0 && this.#hasEnded && this.#live !== undefined)
      await this.#write([...this.#tracked.values()]);
    const notFound = await this.#look(wanted);
    // The containers of this round. One whose target changes meanwhile is another object.
    const round = [...this.#tracked.values()];
    await this.#write(round);
    const trouble = (await this.#forgetNeighbours(round)) ?? notFound;
    // Else somebody has changed the table meanwhile, and the next round writes it again.
    if (this.#live !== undefined) {
      const facts = {
        notFound,
        ...this.#maySucceed(),
        shared: sharedMacs(round),
        notLearning: this.#notLearning,
      };
      this.#protect(round, (tracked) => protectionBy(tracked, facts));
    }
    return trouble;
  }

  /**
   * Finds the ports of containers that have a process.
   * @returns why that failed. What was known before is still true: a port keeps its index while it exists.
   */
  async #look(wanted: readonly Tracked[]): Promise<string | undefined> {
    if (wanted.length === 0 && this.#isSeen) return undefined;
    // Before the commands run, so that what changes while they do is looked for again.
    for (const tracked of wanted) tracked.looked = true;
    this.#isSeen = true;
    try {
      const namespaces = [...this.#tracked.values()].map(({ namespaceId }) => namespaceId);
      this.#see(await findPorts(this.#options, wanted, namespaces));
      const bridges = new Set(wanted.flatMap((tracked) => [...bridgesOf(tracked)]));
      const learning = await stopLinkLocalLearning(this.#options.run, bridges);
      this.#notLearning = new Set(
        [...this.#notLearning, ...bridges].filter((bridge) => !learning.has(bridge)),
      );
      return undefined;
    } catch (error) {
      for (const tracked of wanted) tracked.looked = false;
      this.#isSeen = false;
      return explain(error);
    }
  }

  #see(ports: readonly Port[]): void {
    const now = this.#options.now();
    const onBridges = ports.filter(({ bridge }) => bridge !== undefined);
    this.#seen = new Map(onBridges.map(({ index }) => [index, this.#seen.get(index) ?? now]));
    this.#former = this.#former.filter(({ port }) => this.#seen.has(port));
  }

  /** Ports that no container of which an engine has told us is behind, and no starting one either. */
  #strangers(): readonly number[] {
    const before = this.#options.now() - strangerAfterMs;
    return [...this.#seen].filter(([, seenAt]) => seenAt <= before).map(([index]) => index);
  }

  async #write(round: readonly Tracked[]): Promise<void> {
    const entries = round.map(
      ({ target, ports }): LockEntry => ({
        ports: ports === undefined || isAmbiguous(ports) ? [] : ports.map(({ index }) => index),
        isStarting: ports === undefined && (target.pid === 0 || isHere(target)),
        macs: target.macs,
        addresses: target.addresses,
      }),
    );
    const elements = lockElements(entries, this.#former, this.#strangers());
    this.#hasEnded = false;
    const mark = this.#mark();
    // To delete an element of an ambiguous port would delete another one.
    const before = round.some(({ ports = [] }) => isAmbiguous(ports)) ? undefined : this.#live;
    // Before the transaction, so that a loss that is noticed during it is not forgotten after it.
    this.#live = elements;
    if (before !== undefined) {
      const change = renderLockChange(before, elements, mark);
      if (change === "") return;
      const outcome = await this.#options.run("nft", ["-f", "-"], change);
      if (outcome.kind === "ran" && outcome.exitCode === 0) return;
      // Somebody else has changed the table, so that the change did not fit.
      this.#lose();
      this.#live = elements;
    }
    const renewedAt = this.#options.now();
    await this.#transact(renderLockTable(elements, mark));
    this.#renewedAt = renewedAt;
  }

  async #transact(text: string): Promise<void> {
    const outcome = await this.#options.run("nft", ["-f", "-"], text);
    if (outcome.kind !== "ran" || outcome.exitCode !== 0)
      throw failure(`writing table ${lockTable}`, "nft", outcome);
  }

  /**
   * The host may have learned a container's address from a forged frame before the lock was in force, and
   * would send its answers to the forger.
   */
  async #forgetNeighbours(round: readonly Tracked[]): Promise<string | undefined> {
    const fresh: NeighbourEntry[] = [];
    const wanted = round.map((tracked) => {
      const entries = entriesOf(tracked);
      // An entry that comes back later is removed again.
      tracked.cleared = kept(tracked.cleared, entries);
      for (const [key, entry] of entries) if (!tracked.cleared.has(key)) fresh.push(entry);
      return [tracked, entries] as const;
    });
    if (fresh.length === 0) return undefined;
    // With an obstacle its hardware addresses may not be known, so nothing follows from the host's. It is not
    // locked anyway.
    const unjudged = new Set(
      wanted.flatMap(([{ target }, entries]) => (target.obstacle === undefined ? [] : [...entries.values()])),
    );
    const others = (await forgetNeighbours(this.#options.run, fresh)).filter((entry) => !unjudged.has(entry));
    const remaining = new Set(others);
    if (this.#live === undefined) return undefined;
    for (const [tracked, entries] of wanted)
      tracked.cleared = new Set(
        [...entries].filter(([, entry]) => !remaining.has(entry)).map(([key]) => key),
      );
    const [first] = remaining;
    return first === undefined
      ? undefined
      : `this host has another hardware address for ${first.address} on ${first.bridge}`;
  }

  #protect(round: readonly Tracked[], protectionOf: (tracked: Tracked) => Protection): void {
    const changed: string[] = [];
    const included = new Set(round);
    for (const [id, tracked] of this.#tracked) {
      if (!included.has(tracked)) continue;
      const before = tracked.protection;
      tracked.protection = protectionOf(tracked);
      if (!isDeepStrictEqual(before, tracked.protection)) changed.push(id);
    }
    if (changed.length > 0) this.#options.onChange(changed);
  }
}

function bridgesOf({ ports }: Pick<Tracked, "ports">): ReadonlySet<string> {
  return new Set((ports ?? []).flatMap(({ bridge }) => bridge ?? []));
}

/** The entries of the host's neighbour cache that lead to a container, by `address bridge`. */
function entriesOf({
  target,
  ports,
}: Pick<Tracked, "target" | "ports">): ReadonlyMap<string, NeighbourEntry> {
  return new Map(
    [...bridgesOf({ ports })].flatMap((bridge) =>
      target.addresses.map(
        (address) => [`${address} ${bridge}`, { address, bridge, macs: target.macs }] as const,
      ),
    ),
  );
}

function kept(cleared: ReadonlySet<string>, entries: ReadonlyMap<string, unknown>): ReadonlySet<string> {
  return new Set([...cleared].filter((key) => entries.has(key)));
}

function isHere({ pid, pidStartedAt }: LockTarget): boolean {
  return pid !== 0 && pidStartedAt !== undefined;
}

function isAmbiguous(ports: readonly Port[]): boolean {
  return ports.some((port) => port.isAmbiguous);
}

/** Without an address there is nothing to lock, and a container on the host's network is never found. */
function isToBeFound(target: LockTarget): boolean {
  return isHere(target) && target.addresses.length + target.macs.length > 0;
}

/** The MACs that several containers have on one bridge, as `MAC bridge`. */
function sharedMacs(round: readonly Tracked[]): ReadonlySet<string> {
  const [seen, shared] = [new Set<string>(), new Set<string>()];
  for (const tracked of round) for (const one of macsOn(tracked)) (seen.has(one) ? shared : seen).add(one);
  return shared;
}

function macsOn({ target, ports = [] }: Tracked): ReadonlySet<string> {
  return new Set(ports.flatMap(({ bridge }) => target.macs.map((mac) => `${mac} ${bridge}`)));
}

type Facts = {
  /** Why ports could not be looked for. */
  readonly notFound: string | undefined;
  readonly isPending?: true;
  readonly shared: ReadonlySet<string>;
  readonly notLearning: ReadonlySet<string>;
};

/** Once its entry is in force. */
function protectionBy(tracked: Tracked, { notFound, shared, notLearning, ...pending }: Facts): Protection {
  const { target, ports } = tracked;
  const no = (reason: string): Protection => ({ locked: false, reason });
  if (target.pid === 0) return starting;
  if (target.addresses.length === 0) return no("it has no address of its own");
  if (!isHere(target)) return no("its process is not one of this host");
  if (ports === undefined) return notFound === undefined ? notYet : { ...no(notFound), ...pending };
  const bridges = [...bridgesOf(tracked)];
  if (bridges.length === 0) return no("no port of a bridge on this host leads into its network namespace");
  if (isAmbiguous(ports)) return no("another link of this host has the index of its port as its name");
  // Its neighbour entries cannot be removed: such a name does not reach ip.
  if (!bridges.every(isInterfaceName))
    return no("the name of its bridge has characters that are not supported, or is a number");
  const learning = bridges.find((bridge) => !notLearning.has(bridge));
  if (learning !== undefined) {
    const reason = `${learning} may learn addresses from link-local frames, which no rule sees (no_linklocal_learn is not on)`;
    return notFound === undefined ? no(reason) : { ...no(notFound), ...pending };
  }
  // Either of them could receive what is sent to the other.
  if ([...macsOn(tracked)].some((one) => shared.has(one)))
    return no("another container on its bridge has the same hardware address");
  if (target.obstacle !== undefined) return no(target.obstacle);
  if ([...entriesOf(tracked).keys()].some((key) => !tracked.cleared.has(key)))
    return { ...no("this host has another hardware address for one of its addresses"), ...pending };
  return { locked: true };
}
