import { chmod, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import type { Container } from "../containers/container.ts";
import {
  containerMessage,
  encode,
  type FollowedEngine,
  heartbeatMs,
  maxMessageBytes,
  type Protection,
  protocolVersion,
} from "./protocol.ts";

/** The socket's name in the guard's runtime directory. */
export const containersSocketName = "containers.sock";

/** The proxy, its successor during an upgrade, `check` and `explain`, and some to spare. */
const maxReaders = 8;
/** A reader with this much unread is disconnected. It connects again and gets the state anew. */
const maxUnreadBytes = 16 * 1_048_576;
/** Of the state, this much is written ahead of a reader. */
const aheadBytes = 1_048_576;
/** How long a reader may take to read that much. */
const readMs = 10_000;

export type PublishedContainer = {
  readonly owner: string;
  readonly container: Container;
  readonly protection: Protection;
};

type Options = {
  readonly version: string;
  /** The state at this moment, for a reader that connects. */
  readonly engines: () => readonly FollowedEngine[];
  /**
   * Likewise. It is read bit by bit while changes are published, so each element must be what is known at the
   * moment when it is read.
   */
  readonly containers: () => Iterable<PublishedContainer>;
  /**
   * Called when a reader has connected, which is how it requests the state: compares with the engines, unless
   * that was done a moment ago. Settles within a few seconds. Never rejects.
   */
  readonly refresh: () => Promise<void>;
  /** Called for a container that cannot be published, because its labels are too large. */
  readonly onOversized?: (container: Container) => void;
};

/** Publishes the containers to the proxy. A reader that sends anything is disconnected. */
export class Publisher {
  readonly #options: Options;
  readonly #readers = new Set<Socket>();
  readonly #server: Server;
  #heartbeat: NodeJS.Timeout | undefined;

  constructor(options: Options) {
    this.#options = options;
    this.#server = createServer((socket) => void this.#greet(socket));
  }

  /**
   * @param path of the Unix socket. A file that a killed process has left there is replaced.
   * @throws if it cannot be made
   */
  async listen(path: string): Promise<void> {
    await rm(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(path, resolve);
    });
    // For root and the proxy's group: labels may be confidential.
    await chmod(path, 0o660);
    this.#heartbeat = setInterval(() => this.#send(() => encode({ type: "heartbeat" })), heartbeatMs);
  }

  container(published: PublishedContainer): void {
    this.#send(() => this.#lineOf(published));
  }

  gone(owner: string, id: string): void {
    this.#send(() => encode({ type: "gone", owner, id }));
  }

  engines(): void {
    this.#send(() => this.#enginesLine());
  }

  async close(): Promise<void> {
    clearInterval(this.#heartbeat);
    for (const reader of this.#readers) reader.destroy();
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve));
  }

  async #greet(socket: Socket): Promise<void> {
    socket.on("error", () => socket.destroy());
    socket.on("data", () => socket.destroy());
    if (this.#readers.size >= maxReaders) {
      socket.destroy();
      return;
    }
    this.#readers.add(socket);
    socket.on("close", () => this.#readers.delete(socket));
    const { version, containers, refresh } = this.#options;
    write(socket, encode({ type: "hello", protocol: protocolVersion, version }));
    // From here on the reader also gets each change.
    await refresh();
    write(socket, this.#enginesLine());
    for (const published of containers()) {
      if (socket.destroyed) return;
      write(socket, this.#lineOf(published));
      if (socket.writableLength > aheadBytes) await drained(socket);
    }
    write(socket, encode({ type: "snapshot-end" }));
  }

  #enginesLine(): string {
    return encode({ type: "engines", engines: [...this.#options.engines()] });
  }

  #lineOf({ owner, container, protection }: PublishedContainer): string {
    const line = encode(containerMessage(owner, container, protection));
    if (Buffer.byteLength(line) <= maxMessageBytes) return line;
    // A reader would disconnect, and so would never get the other containers. This one is refused instead.
    this.#options.onOversized?.(container);
    return encode({ type: "gone", owner, id: container.id });
  }

  #send(line: () => string): void {
    if (this.#readers.size === 0) return;
    const text = line();
    for (const reader of this.#readers) write(reader, text);
  }
}

function write(socket: Socket, line: string): void {
  if (socket.destroyed) return;
  socket.write(line);
  if (socket.writableLength > maxUnreadBytes) socket.destroy();
}

/** Resolves when the reader has read what was written. One that takes too long is disconnected. */
async function drained(socket: Socket): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(() => socket.destroy(), readMs);
  socket.once("drain", resolve).once("close", resolve);
  await promise;
  clearTimeout(timer);
  socket.off("drain", resolve).off("close", resolve);
}
