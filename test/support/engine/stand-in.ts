import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

/** One network of a container in the stand-in. */
export type StandInNetwork = { readonly ipv4?: string; readonly ipv6?: string; readonly mac?: string };

export type StandInContainer = {
  readonly id: string;
  readonly name: string;
  readonly networks?: Readonly<Record<string, StandInNetwork>>;
  readonly labels?: Readonly<Record<string, string>>;
  readonly env?: readonly string[];
  /** Of a live process, so that /proc has it. Default: the test's own. */
  readonly pid?: number;
};

/** How the engine misbehaves, until the next call of `fault`. */
export type Fault =
  | { readonly kind: "none" }
  /** Accepts connections and never answers. */
  | { readonly kind: "hang" }
  | { readonly kind: "status"; readonly status: number; readonly only?: RegExp }
  /** Sends the response head and half of the body, then closes the connection. */
  | { readonly kind: "half-answer"; readonly only?: RegExp };

/** A container's id from a short name: 64 hex digits. */
export function idOf(name: string): string {
  return Buffer.from(name).toString("hex").padEnd(64, "0").slice(0, 64);
}

/**
 * A stand-in for an engine, for what a real one cannot be made to do: hang, refuse, send half an event, drop
 * its event stream at a given moment. It answers the paths that we request, and 501 to any other.
 */
export class EngineStandIn implements AsyncDisposable {
  readonly socketPath: string;
  readonly requests: string[] = [];
  readonly #running = new Map<string, StandInContainer>();
  readonly #stopped = new Map<string, StandInContainer>();
  readonly #streams = new Set<ServerResponse>();
  readonly #sockets = new Set<Socket>();
  readonly #server: Server;
  #fault: Fault = { kind: "none" };
  /** Delays the answer to a matching path, so that something else can happen before it. */
  hold: { readonly only: RegExp; readonly until: Promise<void> } | undefined;
  /** In addition to those that containers are attached to. */
  networks: readonly {
    readonly Name: string;
    readonly Driver: string;
    readonly Options?: Readonly<Record<string, string>> | null;
  }[] = [];
  version = { ApiVersion: "1.52", MinAPIVersion: "1.24", Version: "29.0.0" };

  private constructor(socketPath: string) {
    this.socketPath = socketPath;
    this.#server = createServer((request, response) => void this.#answer(request, response));
    this.#server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
  }

  static async listen(): Promise<EngineStandIn> {
    // A socket path has at most 107 bytes; the path of a test's own directory is too long.
    const engine = new EngineStandIn(join(await mkdtemp(join(tmpdir(), "engine-")), "engine.sock"));
    await engine.#listen();
    return engine;
  }

  get host(): string {
    return `unix://${this.socketPath}`;
  }

  get openStreams(): number {
    return this.#streams.size;
  }

  get openConnections(): number {
    return this.#sockets.size;
  }

  fault(fault: Fault): void {
    this.#fault = fault;
  }

  /** Stops the engine: removes its socket and closes its connections. Containers keep running. */
  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#streams.clear();
    await new Promise((resolve) => this.#server.close(resolve));
    await rm(this.socketPath, { force: true });
  }

  async start(): Promise<void> {
    await this.#listen();
  }

  dropStreams(): void {
    for (const stream of this.#streams) stream.destroy();
    this.#streams.clear();
  }

  /** Runs a container, and sends the event unless `quietly`. */
  run(container: StandInContainer, options: { quietly?: boolean } = {}): void {
    this.#stopped.delete(container.id);
    this.#running.set(container.id, container);
    if (options.quietly !== true) this.event("container", "start", container.id);
  }

  create(container: StandInContainer): void {
    this.#stopped.set(container.id, container);
    this.event("container", "create", container.id);
  }

  /** Attaches a created container to its networks, as the engine does before the start. */
  connect(container: StandInContainer): void {
    this.#stopped.set(container.id, container);
    for (const name of Object.keys(container.networks ?? {})) {
      this.event("network", "connect", `net-${name}`, { container: container.id, name, type: "bridge" });
    }
  }

  die(id: string, options: { quietly?: boolean } = {}): void {
    const container = this.#running.get(id);
    this.#running.delete(id);
    if (container !== undefined) this.#stopped.set(id, container);
    if (options.quietly !== true) this.event("container", "die", id);
  }

  remove(id: string): void {
    this.#stopped.delete(id);
    this.event("container", "destroy", id);
  }

  event(
    type: string,
    action: string,
    id: string,
    attributes: Readonly<Record<string, string>> = {},
    at = Date.now(),
  ): void {
    const event = { Type: type, Action: action, Actor: { ID: id, Attributes: attributes }, scope: "local" };
    this.raw(`${JSON.stringify({ ...event, time: Math.floor(at / 1000), timeNano: at * 1e6 })}\n`);
  }

  /** Writes any bytes to every event stream. */
  raw(text: string): void {
    for (const stream of this.#streams) stream.write(text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#server.listening) await this.stop();
    await rm(dirname(this.socketPath), { recursive: true, force: true });
  }

  #listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(this.socketPath, () => resolve());
    });
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? "";
    this.requests.push(path);
    if (this.#fault.kind === "hang") return;
    if (this.hold?.only.test(path)) {
      const answer = this.#find(path);
      await this.hold.until;
      send(response, answer);
      return;
    }
    if (this.#fault.kind === "status" && (this.#fault.only ?? /./).test(path)) {
      send(response, { status: this.#fault.status, body: { message: "made to fail" } });
      return;
    }
    if (/\/events\?/.test(path)) {
      response.writeHead(200, { "Content-Type": "application/json" }).flushHeaders();
      this.#streams.add(response);
      response.on("close", () => this.#streams.delete(response));
      return;
    }
    const answer = this.#find(path);
    if (this.#fault.kind === "half-answer" && (this.#fault.only ?? /./).test(path)) {
      const text = JSON.stringify(answer.body);
      response.writeHead(answer.status, { "Content-Length": Buffer.byteLength(text) });
      response.write(text.slice(0, text.length / 2), () => response.destroy());
      return;
    }
    send(response, answer);
  }

  #find(path: string): Answer {
    const [, rest = ""] = /^(?:\/v\d+\.\d+)?(\/[^?]*)/.exec(path) ?? [];
    if (rest === "/version")
      return { status: 200, body: { ...this.version, Components: [{ Name: "Engine" }] } };
    if (rest === "/containers/json") return { status: 200, body: [...this.#running.values()].map(listed) };
    const id = /^\/containers\/([0-9a-f]+)\/json$/.exec(rest)?.[1];
    if (id !== undefined) {
      const running = this.#running.get(id);
      const container = running ?? this.#stopped.get(id);
      if (container === undefined) return { status: 404, body: { message: `No such container: ${id}` } };
      return { status: 200, body: inspected(container, running !== undefined) };
    }
    if (rest === "/networks") return { status: 200, body: this.networks };
    const network = /^\/networks\/(?:net-)?(.+)$/.exec(rest)?.[1];
    if (network !== undefined) return this.#network(network);
    return { status: 501, body: { message: `the stand-in has no ${path}` } };
  }

  #network(name: string): Answer {
    const all = [...this.#running.values(), ...this.#stopped.values()];
    const attached = all.filter(({ networks }) => networks?.[name] !== undefined);
    if (attached.length === 0) return { status: 404, body: { message: `network ${name} not found` } };
    const endpoints = attached.map(({ id, networks }) => {
      const { ipv4, ipv6, mac = "" } = networks?.[name] ?? {};
      const addresses = {
        IPv4Address: ipv4 ? `${ipv4}/16` : "",
        IPv6Address: ipv6 ? `${ipv6}/64` : "",
      };
      return [id, { MacAddress: mac, ...addresses }];
    });
    return {
      status: 200,
      body: { Name: name, Id: `net-${name}`, Containers: Object.fromEntries(endpoints) },
    };
  }
}

type Answer = { readonly status: number; readonly body: unknown };

function send(response: ServerResponse, { status, body }: Answer): void {
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
}

/** Without swarm's gateway bridge, which is not in a container's own answer. */
function ownNetworks({ networks = {} }: StandInContainer): Record<string, unknown> {
  const own = Object.entries(networks).filter(([name]) => name !== "docker_gwbridge");
  return Object.fromEntries(
    own.map(([name, { ipv4 = "", ipv6 = "", mac = "" }]) => [
      name,
      { IPAddress: ipv4, GlobalIPv6Address: ipv6, MacAddress: mac },
    ]),
  );
}

function listed(container: StandInContainer): unknown {
  const NetworkSettings = { Networks: ownNetworks(container) };
  return { Id: container.id, Names: [`/${container.name}`], State: "running", NetworkSettings };
}

function inspected(container: StandInContainer, running: boolean): unknown {
  return {
    Id: container.id,
    Name: `/${container.name}`,
    Image: "sha256:00",
    Config: { Image: "app:1", Labels: container.labels ?? {}, Env: container.env ?? [], User: "" },
    HostConfig: { NetworkMode: "bridge" },
    Mounts: [],
    State: {
      Status: running ? "running" : "created",
      Running: running,
      Pid: running ? (container.pid ?? process.pid) : 0,
      StartedAt: running ? "2026-01-01T00:00:00Z" : "0001-01-01T00:00:00Z",
    },
    NetworkSettings: { Networks: running ? ownNetworks(container) : {} },
  };
}
