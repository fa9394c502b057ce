import { readlink } from "node:fs/promises";
import { explain } from "../errors.ts";
import { parseNamespaceIds, parsePorts } from "./bridge-ports.ts";
import { failure, mustRun, type Run } from "./command.ts";
import {
  type LockElements,
  type LockEntry,
  lockElements,
  lockTable,
  renderAlive,
  renderLockChange,
  renderLockTable,
} from "./lock-table.ts";

/** What to lock for a container. */
export type LockTarget = {
  readonly macs: readonly string[];
  readonly addresses: readonly string[];
  /** Its first process in the host's pid namespace; 0 while it has none. */
  readonly pid: number;
};

/** Whether a container's addresses are its own. */
export type Protection =
  | { readonly locked: true }
  /** `reason` completes "the lock is not in force for it: ..." */
  | { readonly locked: false; readonly reason: string };

type Options = {
  readonly run: Run;
  readonly procRoot: string;
  /** Told when containers' protection has changed. */
  readonly onChange: (ids: readonly string[]) => void;
  /** Told of each failure, and `undefined` when the table is as it should be again. */
  readonly onTrouble: (error: string | undefined) => void;
  readonly schedule: (ms: number, act: () => void) => () => void;
};

const notYet: Protection = { locked: false, reason: "it has just appeared" };
const retryMs = 1_000;

/**
 * Keeps the kernel's lock table true to what it was told. Changes that come while one is being made are made together,
 * by the next transaction.
 */
export class PortLock {
  readonly #options: Options;
  readonly #targets = new Map<string, LockTarget>();
  /** Ports of those that have been looked for since their target changed. */
  readonly #ports = new Map<string, readonly number[]>();
  readonly #protection = new Map<string, Protection>();
  /** What the kernel has; undefined where that is not known. */
  #live: LockElements | undefined;
  #isDirty = false;
  #isWorking = false;
  #work: Promise<void> = Promise.resolve();
  #cancelRetry: (() => void) | undefined;
  #isClosed = false;

  constructor(options: Options) {
    this.#options = options;
  }

  protectionOf(id: string): Protection {
    return this.#protection.get(id) ?? notYet;
  }

  /** Locks a container's addresses, or changes them. */
  set(id: string, target: LockTarget): void {
    this.#targets.set(id, target);
    this.#ports.delete(id);
    this.#change();
  }

  /** The container is gone: its addresses are nobody's. */
  delete(id: string): void {
    if (!this.#targets.delete(id)) return;
    this.#ports.delete(id);
    this.#protection.delete(id);
    this.#change();
  }

  /** Looks for every container's ports again, and writes the whole table: somebody may have changed either. */
  rebuild(): void {
    this.#ports.clear();
    this.#live = undefined;
    this.#change();
  }

  /** Settles when the kernel has all that was asked for before this call, or when that failed. */
  async settled(): Promise<void> {
    while (this.#isWorking) await this.#work;
  }

  /** Keeps the lock from lapsing; to be called well within `aliveSeconds`. */
  async refresh(): Promise<void> {
    const outcome = await this.#options.run("nft", ["-f", "-"], renderAlive());
    if (outcome.kind !== "ran" || outcome.exitCode !== 0) this.rebuild();
  }

  /** Stops making changes; what is in force stays. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancelRetry?.();
    await this.settled();
  }

  #change(): void {
    this.#isDirty = true;
    this.#cancelRetry?.();
    if (this.#isWorking) return;
    this.#isWorking = true;
    this.#work = this.#makeTrue();
  }

  /** Never rejects. */
  async #makeTrue(): Promise<void> {
    while (this.#isDirty && !this.#isClosed) {
      this.#isDirty = false;
      try {
        await this.#look();
        await this.#write();
        this.#options.onTrouble(undefined);
      } catch (error) {
        this.#live = undefined;
        this.#protect(() => ({ locked: false, reason: explain(error) }));
        this.#options.onTrouble(explain(error));
        this.#cancelRetry = this.#options.schedule(retryMs, () => this.#change());
        break;
      }
    }
    // In the same turn as the last look at #isDirty: a change after it starts the work anew.
    this.#isWorking = false;
  }

  /** Finds the ports of containers with a process. */
  async #look(): Promise<void> {
    const wanted = [...this.#targets].filter(([id, { pid }]) => pid !== 0 && !this.#ports.has(id));
    if (wanted.length === 0) return;
    const { run, procRoot } = this.#options;
    const inodeOf = async (pid: number | "self") =>
      /^net:\[(\d+)\]$/.exec(await readlink(`${procRoot}/${pid}/ns/net`).catch(() => ""))?.[1];
    const inodes = await Promise.all(wanted.map(async ([, { pid }]) => inodeOf(pid)));
    const [links, namespaces] = await Promise.all([
      mustRun(run, "reading the bridges' ports", "ip", ["-j", "-d", "link", "show", "type", "veth"]),
      mustRun(run, "reading the network namespaces", "lsns", ["-t", "net", "-n", "-o", "NS,NETNSID"]),
    ]);
    const ports = parsePorts(links);
    const ids = parseNamespaceIds(namespaces);
    for (const [index, [id, target]] of wanted.entries()) {
      // Changed meanwhile: it is looked for again in the next round.
      if (this.#targets.get(id) !== target) continue;
      const namespace = ids.get(inodes[index] ?? "");
      this.#ports.set(id, namespace === undefined ? [] : (ports.get(namespace) ?? []));
    }
  }

  async #write(): Promise<void> {
    const entries = new Map<string, LockEntry>();
    for (const [id, { macs, addresses }] of this.#targets)
      entries.set(id, { ports: this.#ports.get(id) ?? [], macs, addresses });
    const elements = lockElements(entries.values());
    const text =
      this.#live === undefined ? renderLockTable(elements) : renderLockChange(this.#live, elements);
    if (text !== "") {
      const outcome = await this.#options.run("nft", ["-f", "-"], text);
      if (outcome.kind !== "ran" || outcome.exitCode !== 0) {
        if (this.#live === undefined) throw failure(`writing table ${lockTable}`, "nft", outcome);
        // Somebody else has changed the table: all of it anew.
        this.#live = undefined;
        return this.#write();
      }
      this.#live = elements;
    }
    this.#protect((id) => {
      const entry = entries.get(id);
      if (entry === undefined) return notYet;
      if (entry.ports.length > 0) return { locked: true };
      const hasProcess = this.#targets.get(id)?.pid !== 0;
      return hasProcess ? { locked: false, reason: "no port of a bridge leads into it" } : notYet;
    });
  }

  #protect(protectionOf: (id: string) => Protection): void {
    const changed: string[] = [];
    for (const id of this.#targets.keys()) {
      const [before, after] = [this.protectionOf(id), protectionOf(id)];
      this.#protection.set(id, after);
      if (before.locked !== after.locked) changed.push(id);
    }
    if (changed.length > 0) this.#options.onChange(changed);
  }
}
