import { chmod, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import type { Container } from "../containers/container.ts";
import {
  containerMessage,
  encode,
  type FollowedEngine,
  type GuardMessage,
  heartbeatMs,
  type Protection,
  protocolVersion,
} from "./protocol.ts";

/** Where the guard publishes, below its runtime directory. */
export const containersSocketName = "containers.sock";

/** The proxy's one, the one that takes its place in an upgrade, and one each that asks for the state again. */
const maxReaders = 8;
/** A reader that has not taken so much is given up; it connects again and gets the state anew. */
const maxUnreadBytes = 16 * 1_048_576;

export type PublishedContainer = {
  readonly owner: string;
  readonly container: Container;
  readonly protection: Protection;
};

type Options = {
  readonly version: string;
  /** The state at this moment, for a reader that connects. */
  readonly engines: () => readonly FollowedEngine[];
  readonly containers: () => Iterable<PublishedContainer>;
  /**
   * A reader has connected, which is how it asks for the state: compares with the engines first, if that was not done
   * a moment ago. Settles within a few seconds; never rejects.
   */
  readonly refresh: () => Promise<void>;
};

/** Publishes the containers to the proxy. Nothing that a reader sends is read: it is disconnected. */
export class Publisher {
  readonly #options: Options;
  readonly #readers = new Set<Socket>();
  readonly #server: Server;
  #heartbeat: NodeJS.Timeout | undefined;

  constructor(options: Options) {
    this.#options = options;
    this.#server = createServer((socket) => void this.#greet(socket));
  }

  /** @param path of the unix socket; a file that a killed process has left there is replaced */
  async listen(path: string): Promise<void> {
    await rm(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(path, resolve);
    });
    // Labels may be confidential: for root and for the proxy's group.
    await chmod(path, 0o660);
    this.#heartbeat = setInterval(() => this.#send({ type: "heartbeat" }), heartbeatMs);
  }

  container(published: PublishedContainer): void {
    this.#send(containerMessage(published.owner, published.container, published.protection));
  }

  gone(owner: string, id: string): void {
    this.#send({ type: "gone", owner, id });
  }

  engines(): void {
    this.#send({ type: "engines", engines: [...this.#options.engines()] });
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
    const { version, engines, containers, refresh } = this.#options;
    write(socket, encode({ type: "hello", protocol: protocolVersion, version }));
    // Changes that come meanwhile are sent too: a reader may take a change before the whole state.
    await refresh();
    write(socket, encode({ type: "engines", engines: [...engines()] }));
    for (const { owner, container, protection } of containers())
      write(socket, encode(containerMessage(owner, container, protection)));
    write(socket, encode({ type: "snapshot-end" }));
  }

  #send(message: GuardMessage): void {
    if (this.#readers.size === 0) return;
    const line = encode(message);
    for (const reader of this.#readers) write(reader, line);
  }
}

function write(socket: Socket, line: string): void {
  if (socket.destroyed) return;
  socket.write(line);
  if (socket.writableLength > maxUnreadBytes) socket.destroy();
}
