import pLimit, { type LimitFunction } from "p-limit";
import { canonicalAddress } from "../config/address.ts";
import { explain } from "../errors.ts";
import type { Container } from "./container.ts";
import { openSocketTable, processStartedAt } from "./proc.ts";
import { type End, type Found, findSockets, type Sought, sought } from "./socket-table.ts";

/** A connection as `node:net` describes it on the accepting side. */
export type Connection = {
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly localAddress: string;
  readonly localPort: number;
};

/**
 * How the container reached the listener that accepted the connection, and so what its own socket names as the remote end: through the
 * firewall's redirect the metadata service, else the address that accepted. Never either of them: a connection of the one kind would
 * vouch for a forged one of the other.
 */
export type Via = "redirect" | "direct";

/**
 * `no-such-socket`: the container has no such connection: somebody else uses its address.
 * `port-listening`: the client's port is one that the container listens on. A client's never is; a connection that somebody
 * opened *to* the container, from a forged address of the metadata service, is.
 * `container-gone`: its first process has ended, and the engine has not said so yet.
 * `no-pid`: it has not started, or it runs where this host cannot see it.
 * `unreadable`: /proc does not let us look.
 */
export type ProofCode = "no-such-socket" | "port-listening" | "no-pid" | "unreadable" | "container-gone";

export type Proof =
  | { readonly proven: true }
  | { readonly proven: false; readonly code: ProofCode; readonly reason: string };

type Options = {
  readonly procRoot?: string;
  /** Where containers send metadata requests: as they see it, before the firewall's redirect. Default: EC2's addresses. */
  readonly metadata?: readonly End[];
  /** Reads of socket tables under way at once, over all containers. */
  readonly readsAtOnce?: number;
};

type Question = {
  readonly client: End;
  readonly servers: readonly End[];
  readonly answer: (proof: Proof) => void;
  passes: number;
};

const tables = ["tcp", "tcp6"] as const;
const questionsAPass = 64;
/** A socket can be skipped when another leaves its hash bucket between two reads of the kernel's walk: a miss is looked up again. */
const passesBeforeRefusal = 2;

/**
 * Does this connection come out of this container? The kernel lists a network namespace's sockets in /proc/<pid>/net/tcp and tcp6; whoever
 * only uses the container's address has no socket in there, unless the container can be made to have one: by connecting to it from a forged
 * address, which is why a port that it listens on proves nothing, or by a connection of its own to elsewhere, which is why the remote end counts.
 *
 * The process must be the one that the engine named, by pid and start time, and it is asked for after the table was opened: it lived then,
 * so the table is of its namespace, and a pid that was handed out again does not pass.
 */
export class Provenance {
  readonly #procRoot: string;
  readonly #metadata: readonly End[];
  readonly #reads: LimitFunction;
  /** Questions about one container share passes over its tables: each pass costs the same, however many ask. */
  readonly #searches = new Map<Container, Question[]>();
  /** The table in which a container's clients were found last: `tcp6` for a JVM's dual-stack sockets. */
  readonly #lastTable = new WeakMap<Container, "tcp" | "tcp6">();

  constructor(options: Options = {}) {
    this.#procRoot = options.procRoot ?? "/proc";
    this.#metadata = options.metadata ?? [
      { address: "169.254.169.254", port: 80 },
      { address: "fd00:ec2::254", port: 80 },
    ];
    // libuv has four threads for files and names: one stays free for the rest of the process.
    this.#reads = pLimit(options.readsAtOnce ?? 3);
  }

  /** Never rejects: what cannot be looked up is not proven. */
  check(container: Container, connection: Connection, via: Via): Promise<Proof> {
    if (container.source === "static") return Promise.resolve({ proven: true });
    if (container.pid === 0)
      return Promise.resolve(refusal("no-pid", "its engine names no process on this host"));
    if (container.pidStartedAt === undefined) {
      return Promise.resolve(
        refusal("unreadable", `${this.#procRoot}/${container.pid}/stat could not be read`),
      );
    }
    const address = canonicalAddress(connection.remoteAddress);
    const local = canonicalAddress(connection.localAddress);
    if (address === undefined || local === undefined) {
      return Promise.resolve(refusal("no-such-socket", "the connection has no address"));
    }
    const client = { address, port: connection.remotePort };
    const servers = via === "redirect" ? this.#metadata : [{ address: local, port: connection.localPort }];
    return new Promise((answer) => this.#ask(container, { client, servers, answer, passes: 0 }));
  }

  #ask(container: Container, question: Question): void {
    const waiting = this.#searches.get(container);
    // A pass that is under way may be past this socket's place: the question goes into the next one.
    if (waiting !== undefined) {
      waiting.push(question);
      return;
    }
    const first = [question];
    this.#searches.set(container, first);
    void this.#search(container, first);
  }

  async #search(container: Container, waiting: Question[]): Promise<void> {
    for (
      let batch = waiting.splice(0, questionsAPass);
      batch.length > 0;
      batch = waiting.splice(0, questionsAPass)
    ) {
      const missed = await this.#pass(container, batch);
      for (const question of missed) {
        question.passes += 1;
        if (question.passes < passesBeforeRefusal) waiting.push(question);
        else question.answer(refusal("no-such-socket", missing(question)));
      }
    }
    this.#searches.delete(container);
  }

  /** Answers what one look at the tables can answer, and returns the rest. */
  async #pass(container: Container, batch: readonly Question[]): Promise<readonly Question[]> {
    let open = batch;
    const order = this.#lastTable.get(container) === "tcp6" ? [...tables].reverse() : tables;
    for (const table of order) {
      const seeking = new Map<Sought, Question>();
      for (const question of open) {
        const one = sought(table, question.client, question.servers);
        if (one !== undefined) seeking.set(one, question);
      }
      if (seeking.size === 0) continue;
      const found = await this.#look(container, table, [...seeking.keys()]);
      if ("code" in found) {
        for (const { answer } of open) answer(found);
        return [];
      }
      if (found.established.size > 0) this.#lastTable.set(container, table);
      const settled = new Set<Question>();
      for (const [one, question] of seeking) {
        if (found.listening.has(one)) question.answer(refusal("port-listening", listening(question)));
        else if (found.established.has(one)) question.answer({ proven: true });
        else continue;
        settled.add(question);
      }
      open = open.filter((question) => !settled.has(question));
    }
    return open;
  }

  async #look(
    container: Container,
    table: "tcp" | "tcp6",
    wanted: readonly Sought[],
  ): Promise<Refusal | Found> {
    try {
      const handle = await openSocketTable(this.#procRoot, container.pid, table);
      try {
        const startedAt = await processStartedAt(this.#procRoot, container.pid);
        if (startedAt !== container.pidStartedAt) {
          return refusal("container-gone", `its process ${container.pid} has ended`);
        }
        return await findSockets(handle, wanted, this.#reads);
      } finally {
        await handle.close();
      }
    } catch (error) {
      return isNoProcess(error)
        ? refusal("container-gone", `its process ${container.pid} has ended`)
        : refusal("unreadable", explain(error));
    }
  }
}

type Refusal = Exclude<Proof, { proven: true }>;

function refusal(code: ProofCode, reason: string): Refusal {
  return { proven: false, code, reason };
}

function missing({ client, servers }: Question): string {
  const from = `${client.address} port ${client.port}`;
  const to = servers.map(({ address, port }) => `${address} port ${port}`).join(" or ");
  return `no established connection from ${from} to ${to} in its network namespace`;
}

function listening({ client }: Question): string {
  return `its network namespace has a listening socket on port ${client.port}, so the connection was opened by somebody else`;
}

/** ENOENT: no such pid. ESRCH: it ended while the file was opened. */
function isNoProcess(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ESRCH");
}
