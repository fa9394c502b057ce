import { chmod, lstat, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import type { Container } from "../containers/container.ts";
import { explain } from "../errors.ts";
import { singleFlight } from "../single-flight.ts";
import {
  containerMessage,
  encode,
  type FollowedEngine,
  type HostState,
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
/** Only a proxy that is not connected needs the socket. */
const socketCheckMs = 5_000;

export type PublishedContainer = {
  readonly owner: string;
  readonly container: Container;
  readonly protection: Protection;
};

type Options = {
  readonly version: string;
  /** The state at this moment, for a reader that connects. */
  readonly engines: () => readonly FollowedEngine[];
  /** Likewise. */
  readonly host: () => HostState;
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
  /** Called when somebody has removed the socket: it was made again, or could not be for the reason. */
  readonly onSocketLost?: (reason: string | undefined) => void;
  /** How often the socket is looked for. Default: 5 s. */
  readonly socketCheckMs?: number;
};

/** Publishes the containers to the proxy. A reader that sends anything is disconnected. */
export class Publisher {
  readonly #options: Options;
  readonly #readers = new Set<Socket>();
  /** Makes the socket again if it is gone. Concurrent calls share one attempt. */
  readonly #keepSocket = singleFlight(() => this.#remakeIfGone());
  #server: Server | undefined;
  #path = "";
  #timers: readonly NodeJS.Timeout[] = [];
  #isClosed = false;

  constructor(options: Options) {
    this.#options = options;
  }

  /**
   * @param path of the Unix socket. A file that a killed process has left there is replaced.
   * @throws if it cannot be made
   */
  async listen(path: string): Promise<void> {
    this.#path = path;
    await this.#open();
    this.#timers = [
      setInterval(() => this.#send(() => encode({ type: "heartbeat" })), heartbeatMs),
      setInterval(() => void this.#keepSocket(), this.#options.socketCheckMs ?? socketCheckMs),
    ];
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

  /** What `host` returns has changed. */
  host(): void {
    this.#send(() => this.#hostLine());
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const timer of this.#timers) clearInterval(timer);
    // Otherwise an attempt in progress would open the socket again.
    await this.#keepSocket();
    for (const reader of this.#readers) reader.destroy();
    const server = this.#server;
    if (server?.listening) await new Promise((resolve) => server.close(resolve));
  }

  async #open(): Promise<void> {
    // Before the new one listens: closing removes whatever has the path. Readers stay connected.
    this.#server?.close();
    const server = createServer((socket) => void this.#greet(socket));
    this.#server = server;
    await rm(this.#path, { force: true });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(this.#path, resolve);
    });
    // For root and the proxy's group: labels may be confidential.
    await chmod(this.#path, 0o660);
  }

  /**
   * Never rejects. Without the socket, a proxy that connects again would serve nobody new until the guard is
   * restarted. Another guard's socket is left alone: two would take it from each other for ever.
   */
  async #remakeIfGone(): Promise<void> {
    if (this.#isClosed) return;
    const found = await lstat(this.#path).catch(() => undefined);
    if (this.#isClosed || found?.isSocket() === true) return;
    try {
      await this.#open();
      this.#options.onSocketLost?.(undefined);
    } catch (error) {
      this.#options.onSocketLost?.(explain(error));
    }
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
    write(socket, this.#hostLine());
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

  #hostLine(): string {
    return encode({ type: "host", host: this.#options.host() });
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
