import type { LRUCache } from "lru-cache";
import { type Attachment, addressesOf, type Container, isStarting } from "../containers/container.ts";
import type { Directory } from "../containers/directory.ts";
import { isInCgroupOf, processStartedAt } from "../containers/proc.ts";
import { explain } from "../errors.ts";
import type { Log } from "../log.ts";
import { singleFlight } from "../single-flight.ts";
import { type Engine, type Listed, statusOf } from "./client.ts";
import { differences, isAsListed } from "./comparison.ts";
import type { EngineEvent } from "./events.ts";
import type { Inspected } from "./inspect.ts";
import { Queries } from "./queries.ts";

export type Change = {
  /**
   * - `appeared`: it has an address, but its first process has not run yet; its pid is 0.
   * - `started`: its process is known. Sent without `appeared` for containers that already ran.
   * - `updated`: its name or addresses changed.
   * - `gone`: it died or was removed.
   */
  readonly kind: "appeared" | "started" | "updated" | "gone";
  readonly container: Container;
};

type SyncOptions = {
  /** The owner of the containers in the directory. */
  readonly owner: string;
  readonly engine: Engine;
  readonly directory: Directory;
  /** Inspect answers by id, kept across connections: labels and variables survive a restart. */
  readonly inspected: LRUCache<string, Inspected>;
  readonly log: Log;
  readonly onChange: (change: Change) => void;
  /** The engine did not answer: the connection is unusable. */
  readonly onLost: (error: unknown) => void;
  /** The engine answered a query with an error; undefined once a whole comparison has succeeded again. */
  readonly onRefusal: (reason: string | undefined) => void;
  /** Called with the names of bridges that networks were created with, when they may have changed. */
  readonly onBridges?: (names: readonly string[]) => void;
  readonly procRoot: string;
  /** Whether the engine's pids may be those of another host. */
  readonly mayBeRemote: boolean;
  /** A monotonic clock in milliseconds. */
  readonly now: () => number;
};

/** From `network connect` to `start` takes 0.3 s, and longer with slow volumes. */
const maxStartingMs = 60_000;
const gatewayNetwork = "docker_gwbridge";
/** A comparison waits for this many inspections of a container that keeps changing. */
const maxRounds = 3;

/**
 * Keeps the directory in step with one engine over one connection. Events arrive in the engine's order. One
 * that removes something (`die`, `destroy`, `disconnect`) is applied at once. One that adds something makes
 * us query the engine, and the answer is discarded if another event for the container arrived meanwhile. So a
 * late answer never brings back a container that is gone.
 */
export class Sync {
  /**
   * Compares the directory with the engine's list and inspects containers that differ. Concurrent calls share
   * one comparison. Resolves with the number of containers that came or went without an event. Rejects if the
   * engine does not answer.
   */
  readonly compare = singleFlight(() => this.#compare());
  readonly #options: SyncOptions;
  readonly #queries = new Queries((id, error) => this.#queryFailed(id, error));
  /** Inspections in progress, and whether to repeat them afterwards. */
  readonly #inspections = new Map<string, { again: boolean; readonly done: Promise<void> }>();
  /** Networks that a container was connected to before its labels were known. */
  readonly #connected = new Map<string, Set<string>>();
  readonly #appearedAt = new Map<string, number>();
  /** While a list is in flight: the ids with an event since it was requested. */
  #changedSinceList: Set<string> | undefined;
  #comparedAt = Number.NEGATIVE_INFINITY;
  /** The engine refused a query since the last comparison began. */
  #refused = false;
  #mayHaveGateway = false;
  #bridgesRequested = false;
  #isListingBridges = false;
  #bridgesFailed = false;

  constructor(options: SyncOptions) {
    this.#options = options;
  }

  /** A comparison is due after `everyMs`, and at once after the engine refused a query. */
  isDue(everyMs: number): boolean {
    return this.#refused || this.#options.now() - this.#comparedAt >= everyMs;
  }

  /** Applies nothing from now on; answers in flight are discarded. */
  stop(): void {
    this.#queries.stop();
  }

  handle(event: EngineEvent): void {
    const { id, kind } = event;
    if (kind === "network-created" || kind === "network-removed") {
      // Docker makes docker_gwbridge without an event, when the host joins a swarm. The overlay networks that
      // it makes then have events. The next comparison finds out.
      if (kind === "network-created") this.#mayHaveGateway = true;
      void this.#listBridges();
      return;
    }
    this.#queries.invalidate(id);
    this.#changedSinceList?.add(id);
    switch (kind) {
      case "created":
      case "changed":
        void this.#inspect(id);
        return;
      case "connected":
        this.#connect(id, event.network?.id);
        return;
      case "disconnected":
        this.#disconnect(id, event.network?.name);
        return;
      case "ended":
        // Replayed after a reconnect, it may be about an earlier run of a container that runs again.
        if (event.at > 0 && event.at < (this.#options.inspected.get(id)?.startedAt ?? 0))
          void this.#inspect(id);
        else this.#remove(id);
        return;
      case "removed":
        this.#remove(id);
        this.#options.inspected.delete(id);
        return;
      default:
        kind satisfies never;
    }
  }

  /** Inspects a container and applies the answer. A call during an inspection makes it run once more. */
  #inspect(id: string): Promise<void> {
    const inProgress = this.#inspections.get(id);
    if (inProgress !== undefined) {
      inProgress.again = true;
      return inProgress.done;
    }
    const inspection = { again: false, done: Promise.resolve() };
    const inspectUntilStable = async () => {
      for (let round = 0; round < maxRounds; round++) {
        inspection.again = false;
        await this.#queries.run(
          "inspect",
          id,
          () => this.#query(id),
          (found) => this.#apply(id, found),
        );
        if (!inspection.again || this.#queries.stopped) break;
      }
      this.#inspections.delete(id);
      if (inspection.again && !this.#queries.stopped) void this.#inspect(id);
    };
    inspection.done = inspectUntilStable();
    this.#inspections.set(id, inspection);
    return inspection.done;
  }

  /** Undefined if the engine has no such container. */
  async #query(id: string): Promise<Inspected | undefined> {
    const { engine } = this.#options;
    const inspected = await engine.inspect(id);
    if (inspected === undefined || !inspected.running) return inspected;
    const { container } = inspected;
    // Pids are assigned in a cycle, so this one is not reused between the engine's answer and this read.
    const [pidStartedAt, gateway] = await Promise.all([
      container.pid === 0 ? undefined : this.#startedAt(container),
      this.#mayHaveGateway && container.attachments.length > 0 ? engine.network(gatewayNetwork) : undefined,
    ]);
    const attachment = gateway?.get(id);
    const attachments =
      attachment === undefined ? container.attachments : [...container.attachments, attachment];
    const started = pidStartedAt === undefined ? {} : { pidStartedAt };
    return { ...inspected, container: { ...container, attachments, ...started } };
  }

  /** Undefined if its process is not one of this host. */
  async #startedAt({ id, pid }: Container): Promise<number | undefined> {
    const { procRoot, mayBeRemote } = this.#options;
    const startedAt = await processStartedAt(procRoot, pid);
    // Otherwise a container here that has a process of that number would be taken for the remote one.
    return mayBeRemote && !(await isInCgroupOf(procRoot, pid, id)) ? undefined : startedAt;
  }

  #apply(id: string, found: Inspected | undefined): void {
    const { inspected } = this.#options;
    if (found === undefined) {
      this.#remove(id);
      inspected.delete(id);
      return;
    }
    inspected.set(id, found);
    const current = this.#owned(id);
    if (!found.running) {
      // A starting container does not run yet. It stays announced for as long as a start may take.
      const appearedAt = this.#appearedAt.get(id) ?? Number.NEGATIVE_INFINITY;
      const mayStart =
        current === undefined || (isStarting(current) && this.#options.now() - appearedAt < maxStartingMs);
      if (!mayStart) this.#remove(id);
      else
        for (const network of this.#connected.get(id) ?? [])
          void this.#announce(id, network, found.container);
      this.#connected.delete(id);
      return;
    }
    this.#connected.delete(id);
    this.#appearedAt.delete(id);
    if (!this.#put(found.container)) return;
    const isSame = current !== undefined && current.pid === found.container.pid;
    const kind = isSame && current.pidStartedAt === found.container.pidStartedAt ? "updated" : "started";
    this.#options.onChange({ kind, container: found.container });
  }

  #connect(id: string, network: string | undefined): void {
    const current = this.#owned(id);
    const known = this.#options.inspected.get(id);
    // A running container, or one whose network the engine does not name: an inspect has it all.
    if (network === undefined || (current !== undefined && !isStarting(current))) void this.#inspect(id);
    else if (known !== undefined) void this.#announce(id, network, known.container);
    else {
      const networks = this.#connected.get(id) ?? new Set();
      this.#connected.set(id, networks.add(network));
      void this.#inspect(id);
    }
  }

  /**
   * Puts a container into the directory before it runs. Queries the network, because the engine holds the
   * container's lock until the start is over: an inspect would wait for that and return after the first
   * process has begun to run.
   */
  async #announce(id: string, network: string, known: Container): Promise<void> {
    const query = async () => (await this.#options.engine.network(network))?.get(id);
    await this.#queries.run("announcement", id, query, (attachment) => {
      if (attachment === undefined) return;
      const current = this.#owned(id);
      if (current !== undefined && !isStarting(current)) return;
      const others = (current?.attachments ?? []).filter((one) => one.network !== attachment.network);
      const { pidStartedAt: _, ...asKnown } = known;
      const container = { ...asKnown, pid: 0, attachments: [...others, attachment] };
      if (current === undefined) this.#appearedAt.set(id, this.#options.now());
      if (this.#put(container))
        this.#options.onChange({ kind: current === undefined ? "appeared" : "updated", container });
    });
  }

  #disconnect(id: string, network: string | undefined): void {
    const container = this.#owned(id);
    if (container === undefined) return;
    // Applied at once: another container may have the address before an inspect is answered.
    const attachments = container.attachments.filter(
      (one) => network !== undefined && one.network !== network,
    );
    if (isStarting(container) && attachments.length === 0) this.#remove(id);
    else if (this.#put({ ...container, attachments })) void this.#inspect(id);
  }

  async #compare(): Promise<number> {
    const { engine, directory, owner, now, onRefusal } = this.#options;
    this.#comparedAt = now();
    const wasRefused = this.#refused;
    this.#refused = false;
    const changed = new Set<string>();
    this.#changedSinceList = changed;
    const [listed, gateway] = await Promise.all([engine.running(), engine.network(gatewayNetwork)]);
    const unchanged = await Promise.all(listed.map((one) => this.#isUnchanged(one, gateway?.get(one.id))));
    this.#changedSinceList = undefined;
    if (this.#queries.stopped) return 0;
    this.#mayHaveGateway = gateway !== undefined;
    const found = differences({
      listed,
      unchanged: new Set(listed.filter((_, index) => unchanged[index]).map(({ id }) => id)),
      owned: directory.owned(owner),
      changed,
    });
    for (const id of found.gone) this.#remove(id);
    // Not every version of Podman reports new networks.
    void this.#listBridges();
    await Promise.all(found.toInspect.map((id) => this.#inspect(id)));
    if (wasRefused && !this.#refused) onRefusal(undefined);
    return found.withoutEvent;
  }

  /** Never rejects: without the names, containers are served as far as INTERFACES covers their bridges. */
  async #listBridges(): Promise<void> {
    const { engine, onBridges, log } = this.#options;
    if (onBridges === undefined) return;
    this.#bridgesRequested = true;
    if (this.#isListingBridges) return;
    this.#isListingBridges = true;
    while (this.#bridgesRequested && !this.#queries.stopped) {
      // A list that is in flight may be older than the event that requests another.
      this.#bridgesRequested = false;
      try {
        const names = await engine.bridges();
        this.#bridgesFailed = false;
        if (!this.#queries.stopped) onBridges(names);
      } catch (error) {
        if (!this.#bridgesFailed && !this.#queries.stopped)
          log.warn(
            { code: "networks-unreadable", error: explain(error) },
            "cannot list the engine's networks",
          );
        this.#bridgesFailed = true;
      }
    }
    this.#isListingBridges = false;
  }

  /** Checks the process too: after a missed restart it is another one with the same id and address. */
  async #isUnchanged(listed: Listed, gateway: Attachment | undefined): Promise<boolean> {
    const container = this.#owned(listed.id);
    if (container?.pidStartedAt === undefined || !isAsListed(container, listed, gateway)) return false;
    return (await processStartedAt(this.#options.procRoot, container.pid)) === container.pidStartedAt;
  }

  #owned(id: string): Container | undefined {
    return this.#options.directory.owned(this.#options.owner).get(id);
  }

  /** Returns false if nothing changed. */
  #put(container: Container): boolean {
    const { directory, owner, log } = this.#options;
    const before = new Set(
      addressesOf(container).filter((address) => directory.at(address).kind === "conflict"),
    );
    if (!directory.upsert(owner, container)) return false;
    for (const address of addressesOf(container)) {
      const lookup = directory.at(address);
      if (lookup.kind !== "conflict" || before.has(address)) continue;
      const names = lookup.containers.map(({ name }) => name);
      log.warn(
        { code: "addresses-shared", address, containers: names },
        "two containers have the same address; neither is served there",
      );
      // One of them may be gone already; the engine knows.
      for (const { id } of lookup.containers) if (this.#owned(id) !== undefined) void this.#inspect(id);
    }
    return true;
  }

  #remove(id: string): void {
    const { directory, owner, onChange } = this.#options;
    this.#connected.delete(id);
    this.#appearedAt.delete(id);
    const container = directory.remove(owner, id);
    if (container !== undefined) onChange({ kind: "gone", container });
  }

  #queryFailed(id: string, error: unknown): void {
    const { log, onLost, onRefusal } = this.#options;
    log.warn(
      { code: "container-unreadable", container: id, error: explain(error) },
      "cannot inspect a container",
    );
    if (statusOf(error) === undefined) {
      onLost(error);
      return;
    }
    this.#refused = true;
    onRefusal(explain(error));
  }
}
