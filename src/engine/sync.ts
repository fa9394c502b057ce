import { type Attachment, addressesOf, type Container, isStarting } from "../containers/container.ts";
import type { Directory } from "../containers/directory.ts";
import { processStartedAt } from "../containers/proc.ts";
import { explain } from "../errors.ts";
import type { Log } from "../log.ts";
import { type Engine, type Listed, statusOf } from "./client.ts";
import type { EngineEvent } from "./events.ts";
import { Inquiries } from "./inquiries.ts";
import type { Inspected } from "./inspect.ts";

export type Change = {
  /**
   * `appeared`: it has an address and has not run its first instruction; its pid is 0. `started`: its process is known; comes without
   * `appeared` for those that ran already. `updated`: name or addresses changed. `gone`: it died or was removed.
   */
  readonly kind: "appeared" | "started" | "updated" | "gone";
  readonly container: Container;
};

export type FollowerOptions = {
  /** Under which the containers are kept in the directory. */
  readonly owner: string;
  readonly engine: Engine;
  readonly directory: Directory;
  /** Inspect answers of earlier connections, by id: a container that starts again has the same labels and variables. */
  readonly known: Map<string, Inspected>;
  readonly log: Log;
  readonly onChange: (change: Change) => void;
  /** A call failed. `status` undefined: the engine did not answer, and the connection is of no use any more. */
  readonly onFailure: (error: unknown, status: number | undefined) => void;
  readonly procRoot: string;
  /** For durations, in milliseconds; never goes back and never jumps. */
  readonly now: () => number;
};

const maxKnown = 2000;
/** From `network connect` to `start` takes 0.3 s, and longer with slow volumes. */
const maxStartingMs = 60_000;
const gatewayNetwork = "docker_gwbridge";
/** A container that changes without end is looked at without end, but a comparison does not wait for it. */
const mostRounds = 3;

/**
 * Keeps the directory true to one engine, over one connection to it. Events come in the engine's order. What takes an entry away (`die`,
 * `destroy`, `disconnect`) is applied at once; what adds to one is looked up at the engine, and dropped when another event about the
 * container came in between. So a late answer never brings back a container that is gone.
 */
export class Follower {
  readonly #with: FollowerOptions;
  readonly #inquiries = new Inquiries((id, error) => {
    this.#with.log.warn({ container: id, error: explain(error) }, "looking at a container");
    this.#with.onFailure(error, statusOf(error));
  });
  /** Inspections under way, and whether to do it once more afterwards. */
  readonly #looks = new Map<string, { again: boolean; readonly done: Promise<void> }>();
  /** Networks that a container was connected to before we knew its labels. */
  readonly #connected = new Map<string, Set<string>>();
  readonly #appearedAt = new Map<string, number>();
  /** While a list is under way: ids with an event since it was asked for. The list may be older than the event. */
  #sinceList: Set<string> | undefined;
  #hasGateway = false;

  constructor(options: FollowerOptions) {
    this.#with = options;
  }

  /** Applies nothing any more; what is under way is dropped when it comes. */
  stop(): void {
    this.#inquiries.stop();
  }

  handle(event: EngineEvent): void {
    const { id, kind } = event;
    if (kind === "network-created") {
      if (event.network?.name === gatewayNetwork) this.#hasGateway = true;
      return;
    }
    this.#inquiries.overtake(id);
    this.#sinceList?.add(id);
    switch (kind) {
      case "created":
      case "changed":
        void this.#look(id);
        return;
      case "connected":
        this.#connect(id, event.network?.id);
        return;
      case "disconnected":
        this.#disconnect(id, event.network?.name);
        return;
      case "ended":
        // Sent again after a reconnect, about an earlier life of a container that was started since.
        if (event.at > 0 && event.at < (this.#with.known.get(id)?.startedAt ?? 0)) void this.#look(id);
        else this.#end(id);
        return;
      case "removed":
        this.#end(id);
        this.#with.known.delete(id);
        return;
      default:
        kind satisfies never;
    }
  }

  /**
   * Compares with the engine's list of running containers, and sees to those that differ; one call at a time. Returns how many
   * had come or gone without an event.
   */
  async sync(): Promise<number> {
    const { engine, directory, owner } = this.#with;
    const sinceList = new Set<string>();
    this.#sinceList = sinceList;
    const [listed, gateway] = await Promise.all([engine.running(), engine.network(gatewayNetwork)]);
    const unchanged = await Promise.all(listed.map((one) => this.#isUnchanged(one, gateway?.get(one.id))));
    this.#sinceList = undefined;
    if (this.#inquiries.stopped) return 0;
    this.#hasGateway = gateway !== undefined;
    const running = new Set(listed.map(({ id }) => id));
    const owned = [...directory.owned(owner)];
    let unheard = listed.filter(({ id }) => !directory.owned(owner).has(id) && !sinceList.has(id)).length;
    const looks = listed.filter((_, index) => unchanged[index] === false).map(({ id }) => id);
    for (const [id, container] of owned) {
      if (running.has(id) || sinceList.has(id)) continue;
      // One that is starting is not in a list of running ones.
      if (isStarting(container)) looks.push(id);
      else {
        unheard += 1;
        this.#end(id);
      }
    }
    await Promise.all(looks.map((id) => this.#look(id)));
    return unheard;
  }

  /** Also after a restart within a gap of the events the process is another one, though id and address may be the same. */
  async #isUnchanged(listed: Listed, gateway: Attachment | undefined): Promise<boolean> {
    const container = this.#with.directory.owned(this.#with.owner).get(listed.id);
    if (container?.pidStartedAt === undefined || container.name !== listed.name) return false;
    const has = new Set(addressesOf(container));
    const wanted = [...listed.addresses, ...(gateway?.ipv4 === undefined ? [] : [gateway.ipv4])];
    if (wanted.length !== has.size || wanted.some((address) => !has.has(address))) return false;
    return (await processStartedAt(this.#with.procRoot, container.pid)) === container.pidStartedAt;
  }

  #connect(id: string, network: string | undefined): void {
    const current = this.#with.directory.owned(this.#with.owner).get(id);
    const known = this.#with.known.get(id);
    // A running one, or one whose network the engine does not name: an inspect tells all of it.
    if (network === undefined || (current !== undefined && !isStarting(current))) void this.#look(id);
    else if (known !== undefined) void this.#announce(id, network, known.container);
    else {
      const networks = this.#connected.get(id) ?? new Set();
      this.#connected.set(id, networks.add(network));
      void this.#look(id);
    }
  }

  /**
   * Puts a container into the directory before it runs. The network is asked, because the engine holds the container's lock until
   * the start is over: an inspect would wait for that, and come after the first instruction.
   */
  async #announce(id: string, network: string, known: Container): Promise<void> {
    const attachment = await this.#inquiries.ask("announcement", id, async () => {
      const attachments = await this.#with.engine.network(network);
      return attachments?.get(id);
    });
    if (attachment === undefined) return;
    const current = this.#with.directory.owned(this.#with.owner).get(id);
    if (current !== undefined && !isStarting(current)) return;
    const others = (current?.attachments ?? []).filter((one) => one.network !== attachment.network);
    const { pidStartedAt: _, ...asKnown } = known;
    const container = { ...asKnown, pid: 0, attachments: [...others, attachment] };
    if (current === undefined) this.#appearedAt.set(id, this.#with.now());
    if (this.#put(container))
      this.#with.onChange({ kind: current === undefined ? "appeared" : "updated", container });
  }

  #disconnect(id: string, network: string | undefined): void {
    const container = this.#with.directory.owned(this.#with.owner).get(id);
    if (container === undefined) return;
    // Its address may be another's by the time an inspect has answered.
    const attachments = container.attachments.filter(
      (one) => network !== undefined && one.network !== network,
    );
    if (isStarting(container) && attachments.length === 0) this.#end(id);
    else if (this.#put({ ...container, attachments })) void this.#look(id);
  }

  #look(id: string): Promise<void> {
    const underWay = this.#looks.get(id);
    if (underWay !== undefined) {
      underWay.again = true;
      return underWay.done;
    }
    const look = { again: false, done: Promise.resolve() };
    look.done = this.#repeat(id, look);
    this.#looks.set(id, look);
    return look.done;
  }

  async #repeat(id: string, look: { again: boolean }): Promise<void> {
    for (let round = 0; round < mostRounds; round++) {
      look.again = false;
      const seen = await this.#inquiries.ask("inspect", id, () => this.#inspect(id));
      if (seen !== undefined) this.#apply(id, seen);
      if (!look.again || this.#inquiries.stopped) break;
    }
    this.#looks.delete(id);
    if (look.again && !this.#inquiries.stopped) void this.#look(id);
  }

  /** `"missing"` where the engine knows no such container. */
  async #inspect(id: string): Promise<Inspected | "missing"> {
    const { engine, procRoot } = this.#with;
    const inspected = await engine.inspect(id);
    if (inspected === undefined) return "missing";
    const { container, running } = inspected;
    if (!running) return inspected;
    // Pids are handed out in a circle: between the engine's answer and this read none comes round again.
    const [pidStartedAt, gateway] = await Promise.all([
      container.pid === 0 ? undefined : processStartedAt(procRoot, container.pid),
      this.#hasGateway && container.attachments.length > 0 ? engine.network(gatewayNetwork) : undefined,
    ]);
    const attachment = gateway?.get(id);
    const attachments =
      attachment === undefined ? container.attachments : [...container.attachments, attachment];
    const started = pidStartedAt === undefined ? {} : { pidStartedAt };
    return { ...inspected, container: { ...container, attachments, ...started } };
  }

  #apply(id: string, seen: Inspected | "missing"): void {
    const { directory, owner, now } = this.#with;
    if (seen === "missing") {
      this.#end(id);
      this.#with.known.delete(id);
      return;
    }
    this.#remember(seen);
    const current = directory.owned(owner).get(id);
    if (!seen.running) {
      // One that is starting does not run yet: it stays announced for as long as a start may take.
      const appearedAt = this.#appearedAt.get(id) ?? Number.NEGATIVE_INFINITY;
      const mayStart = current === undefined || (isStarting(current) && now() - appearedAt < maxStartingMs);
      if (!mayStart) this.#end(id);
      else
        for (const network of this.#connected.get(id) ?? []) void this.#announce(id, network, seen.container);
      this.#connected.delete(id);
      return;
    }
    this.#connected.delete(id);
    this.#appearedAt.delete(id);
    if (!this.#put(seen.container)) return;
    const isSame = current !== undefined && current.pid === seen.container.pid;
    const kind = isSame && current.pidStartedAt === seen.container.pidStartedAt ? "updated" : "started";
    this.#with.onChange({ kind, container: seen.container });
  }

  #put(container: Container): boolean {
    const { directory, owner, log } = this.#with;
    const before = new Set(
      addressesOf(container).filter((address) => directory.at(address).kind === "conflict"),
    );
    if (!directory.upsert(owner, container)) return false;
    for (const address of addressesOf(container)) {
      const lookup = directory.at(address);
      if (lookup.kind !== "conflict" || before.has(address)) continue;
      const names = lookup.containers.map(({ name }) => name);
      log.warn({ address, containers: names }, "two containers have one address: neither is served there");
      // One of them may be gone already; the engine knows.
      for (const { id } of lookup.containers) if (directory.owned(owner).has(id)) void this.#look(id);
    }
    return true;
  }

  #end(id: string): void {
    const { directory, owner, onChange } = this.#with;
    this.#connected.delete(id);
    this.#appearedAt.delete(id);
    const container = directory.remove(owner, id);
    if (container !== undefined) onChange({ kind: "gone", container });
  }

  #remember(inspected: Inspected): void {
    const { known } = this.#with;
    const { id } = inspected.container;
    known.delete(id);
    known.set(id, inspected);
    // The oldest first: a Map keeps the order of insertion. Running ones are in the directory and are seldom asked for here.
    for (const oldest of known.keys()) {
      if (known.size <= maxKnown) break;
      known.delete(oldest);
    }
  }
}
