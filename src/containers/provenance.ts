import pLimit, { type LimitFunction } from "p-limit";
import { canonicalAddress } from "../config/address.ts";
import { explain } from "../errors.ts";
import type { Container } from "./container.ts";
import { openSocketTable, processStartedAt } from "./proc.ts";
import { type End, type Found, findSockets, type Pattern, patternFor } from "./socket-table.ts";

/** A connection as `node:net` describes it on the accepting side. */
export type Connection = {
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly localAddress: string;
  readonly localPort: number;
};

/**
 * How clients reach the listener that accepted the connection. This decides the remote end of the client's
 * own socket: with the firewall's redirect it is the metadata service, otherwise the address that accepted.
 * Never both for one listener: a real connection of one kind would prove a forged one of the other.
 */
export type Via = "redirect" | "direct";

/**
 * - `no-such-socket`: the container has no such connection: somebody else uses its address.
 * - `client-closed`: the connection is the container's, and it has closed its side already.
 * - `port-listening`: the container listens on the client's port. A client's port is never a listening one,
 *   unless an attacker connected *to* the container from a forged address of the metadata service.
 * - `container-gone`: its first process has ended, and the engine has not reported that yet.
 * - `no-pid`: it has not started, or it runs where this host cannot see it.
 * - `unreadable`: /proc cannot be read.
 */
export type ProofCode =
  | "no-such-socket"
  | "client-closed"
  | "port-listening"
  | "no-pid"
  | "unreadable"
  | "container-gone";

export type Proof =
  | { readonly proven: true }
  | { readonly proven: false; readonly code: ProofCode; readonly reason: string };

type Options = {
  readonly procRoot?: string;
  /** Where containers send metadata requests, before the firewall's redirect. Default: EC2's addresses. */
  readonly metadata?: readonly End[];
  /** Concurrent reads of socket tables, over all containers. */
  readonly maxConcurrentReads?: number;
};

type Question = {
  readonly client: End;
  readonly servers: readonly End[];
  readonly answer: (proof: Proof) => void;
  passes: number;
};

const tables = ["tcp", "tcp6"] as const;
const maxQuestionsPerPass = 64;
/** A pass misses a socket if another leaves its hash bucket between two reads: a miss is retried. */
const passesBeforeRefusal = 2;

/**
 * Checks that a connection comes from a container. The kernel lists the sockets of a network namespace in
 * /proc/<pid>/net/tcp and tcp6. An attacker who only uses the container's address has no socket there. There
 * are two ways around that, and so two more conditions. A connection *to* the container from a forged address
 * has a socket there: a port on which the container listens proves nothing. So has a connection of the
 * container to somewhere else: the remote end must match too.
 *
 * The process must be the one that the engine reported, by pid and start time. The start time is read after
 * the table was opened: if it is still right, the process was alive then and the table is that of its
 * namespace. A reused pid fails this.
 */
export class Provenance {
  readonly #procRoot: string;
  readonly #metadata: readonly End[];
  readonly #reads: LimitFunction;
  /** Questions about one container share passes over its tables: a pass costs the same for any number. */
  readonly #searches = new Map<Container, Question[]>();
  /** The table in which a container's last client was found: `tcp6` for a JVM's dual-stack sockets. */
  readonly #lastTable = new WeakMap<Container, "tcp" | "tcp6">();

  constructor(options: Options = {}) {
    this.#procRoot = options.procRoot ?? "/proc";
    this.#metadata = options.metadata ?? [
      { address: "169.254.169.254", port: 80 },
      { address: "fd00:ec2::254", port: 80 },
    ];
    // libuv has four threads for files and DNS: one stays free for the rest of the process.
    this.#reads = pLimit(options.maxConcurrentReads ?? 3);
  }

  /** Never rejects: a lookup that fails is not a proof. */
  check(container: Container, connection: Connection, via: Via): Promise<Proof> {
    if (container.source === "static") return Promise.resolve({ proven: true });
    if (container.pid === 0)
      return Promise.resolve(refusal("no-pid", "its engine reports no process on this host"));
    if (container.pidStartedAt === undefined) {
      return Promise.resolve(
        refusal(
          "unreadable",
          `${this.#procRoot}/${container.pid} could not be read, or is not a process of this container`,
        ),
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
    // A pass in progress may already be past this socket, so the question goes into the next one.
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
      let batch = waiting.splice(0, maxQuestionsPerPass);
      batch.length > 0;
      batch = waiting.splice(0, maxQuestionsPerPass)
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

  /** Answers the questions that one pass over the tables can answer, and returns the others. */
  async #pass(container: Container, batch: readonly Question[]): Promise<readonly Question[]> {
    let open = batch;
    const order = this.#lastTable.get(container) === "tcp6" ? [...tables].reverse() : tables;
    for (const table of order) {
      const byPattern = new Map<Pattern, Question>();
      for (const question of open) {
        const pattern = patternFor(table, question.client, question.servers);
        if (pattern !== undefined) byPattern.set(pattern, question);
      }
      if (byPattern.size === 0) continue;
      const search = await this.#searchTable(container, table, [...byPattern.keys()]);
      if (!search.ok) {
        for (const { answer } of open) answer(search.refusal);
        return [];
      }
      const { found } = search;
      if (found.established.size > 0) this.#lastTable.set(container, table);
      const settled = new Set<Question>();
      for (const [pattern, question] of byPattern) {
        if (found.listening.has(pattern)) question.answer(refusal("port-listening", listening(question)));
        else if (found.established.has(pattern)) question.answer({ proven: true });
        else if (found.closed.has(pattern)) question.answer(refusal("client-closed", closed(question)));
        else continue;
        settled.add(question);
      }
      open = open.filter((question) => !settled.has(question));
    }
    return open;
  }

  async #searchTable(
    container: Container,
    table: "tcp" | "tcp6",
    patterns: readonly Pattern[],
  ): Promise<Search> {
    const gone = () => refusal("container-gone", `its process ${container.pid} has ended`);
    try {
      const handle = await openSocketTable(this.#procRoot, container.pid, table);
      try {
        const startedAt = await processStartedAt(this.#procRoot, container.pid);
        if (startedAt !== container.pidStartedAt) return { ok: false, refusal: gone() };
        return { ok: true, found: await findSockets(handle, patterns, this.#reads) };
      } finally {
        await handle.close();
      }
    } catch (error) {
      return { ok: false, refusal: isNoProcess(error) ? gone() : refusal("unreadable", explain(error)) };
    }
  }
}

type Refusal = Exclude<Proof, { proven: true }>;
type Search =
  | { readonly ok: true; readonly found: Found }
  | { readonly ok: false; readonly refusal: Refusal };

function refusal(code: ProofCode, reason: string): Refusal {
  return { proven: false, code, reason };
}

function missing({ client, servers }: Question): string {
  const from = `${client.address} port ${client.port}`;
  const to = servers.map(({ address, port }) => `${address} port ${port}`).join(" or ");
  return `no established connection from ${from} to ${to} in its network namespace`;
}

function closed({ client }: Question): string {
  return `the client at port ${client.port} has closed its side of the connection: it gave up, or it half-closes before it reads`;
}

function listening({ client }: Question): string {
  return `its network namespace has a listening socket on port ${client.port}, so the connection was opened from outside`;
}

/** ENOENT: no such pid. ESRCH: the process ended while the file was being opened. */
function isNoProcess(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ESRCH");
}
