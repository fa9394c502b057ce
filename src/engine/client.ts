import { constants } from "node:fs";
import { readFile } from "node:fs/promises";
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { Readable } from "node:stream";
import { inspect } from "node:util";
import Docker from "dockerode";
import type { Attachment } from "../containers/container.ts";
import { explain } from "../errors.ts";
import { isApiVersion, negotiate } from "./api-version.ts";
import type { Endpoint } from "./endpoint.ts";
import { eventFilters, lines } from "./events.ts";
import { type Inspected, readInspect } from "./inspect.ts";
import { address, type Fields, JsonShapeError, list, mac, object, string } from "./json.ts";

/** File paths, as in the Docker CLI's DOCKER_CERT_PATH. */
export type TlsFiles = { readonly ca?: string; readonly cert?: string; readonly key?: string };

/** A running container as a list shows it: enough to tell whether the directory's entry is still right. */
export type Listed = { readonly id: string; readonly name: string; readonly addresses: readonly string[] };

/** One engine's API over one pool of connections. Calls have a timeout and are not retried. */
export type Engine = {
  /** The negotiated version, e.g. `1.44`. */
  readonly apiVersion: string;
  /** The engine's own name and version: `Docker 20.10.24`, `Podman 4.3.1`. */
  readonly name: string;
  running(): Promise<Listed[]>;
  /** Undefined if there is no such container. */
  inspect(id: string): Promise<Inspected | undefined>;
  /** The attachments of a network's containers by container id. Undefined if there is no such network. */
  network(idOrName: string): Promise<ReadonlyMap<string, Attachment> | undefined>;
  /** Networks whose containers are not behind the host (macvlan, ipvlan), as `name (driver)`. */
  linkNetworks(): Promise<string[]>;
  /** The names of bridges that networks were created with. Others have names that the engine makes up. */
  bridges(): Promise<string[]>;
  /** The lines of the event stream from `sinceSeconds` (epoch) on. Resolves on the response head. */
  events(sinceSeconds: number): Promise<AsyncGenerator<string>>;
  /** Closes every connection; pending calls reject. */
  close(): void;
};

type ConnectOptions = { readonly endpoint: Endpoint; readonly tls: TlsFiles; readonly callTimeoutMs: number };

const maxEventBytes = 1024 * 1024;

/**
 * docker-modem formats each request for its debug log even when that is off, including all that the agent
 * holds: sockets, parsers, buffers. That was most of the cost of a call, 10 ms and more.
 */
const shortInspect = { [inspect.custom]: () => "Agent" };

/** Connects to an engine and negotiates an API version. */
export async function connectEngine({ endpoint, tls, callTimeoutMs }: ConnectOptions): Promise<Engine> {
  const files = await withTimeout(callTimeoutMs, "reading dockerTls", readTls(tls));
  const agentOptions = { keepAlive: true, maxSockets: 32, ...files };
  const isTls = endpoint.kind === "tcp" && endpoint.tls;
  const agent = Object.assign(
    isTls ? new HttpsAgent(agentOptions) : new HttpAgent(agentOptions),
    shortInspect,
  );
  // Every option is given, also where it is undefined: docker-modem reads missing ones from DOCKER_HOST and
  // its companions in the environment.
  const connection = {
    socketPath: endpoint.kind === "unix" ? endpoint.socketPath : undefined,
    host: endpoint.kind === "tcp" ? endpoint.host : undefined,
    port: endpoint.kind === "tcp" ? endpoint.port : undefined,
    protocol: isTls ? ("https" as const) : ("http" as const),
    pathPrefix: "/",
    username: undefined,
    ca: files.ca,
    cert: files.cert,
    key: files.key,
    agent,
  };
  const client = (version: string | undefined, timeout: number | undefined) =>
    new Docker({ ...connection, version, timeout });
  const call = <T>(what: string, promise: Promise<T>) => withTimeout(callTimeoutMs, what, promise);
  try {
    // The only path without a version in it, because it tells the version.
    const answer: unknown = await call(
      "requesting the engine's version",
      client(undefined, callTimeoutMs).version(),
    );
    const about = object(answer, "version");
    const apiVersion = negotiate(readApiVersion(about.ApiVersion), about.MinAPIVersion);
    const calls = client(`v${apiVersion}`, callTimeoutMs);
    // No idle timeout on this one: a quiet host has no events for hours.
    const streaming = client(`v${apiVersion}`, undefined);
    return {
      apiVersion,
      name: engineName(about),
      running: async () => readList(await call("listing containers", calls.listContainers())),
      inspect: async (id) => {
        const found: unknown = await ifFound(
          call("inspecting a container", calls.getContainer(id).inspect()),
        );
        return found === undefined ? undefined : readInspect(found);
      },
      network: async (idOrName) => {
        const path = encodeURIComponent(idOrName);
        const found: unknown = await ifFound(call("inspecting a network", calls.getNetwork(path).inspect()));
        return found === undefined ? undefined : readNetwork(found);
      },
      linkNetworks: async () => readLinkNetworks(await call("listing networks", calls.listNetworks())),
      bridges: async () => readBridges(await call("listing networks", calls.listNetworks())),
      events: async (since) => {
        const response = streaming.getEvents({ since, filters: eventFilters });
        const stream = await call("requesting events", response);
        // The types promise only the base interface; docker-modem passes on node:http's IncomingMessage.
        if (!(stream instanceof Readable)) throw new Error("requesting events: the response is not a stream");
        return lines(stream, maxEventBytes);
      },
      close: () => agent.destroy(),
    };
  } catch (error) {
    agent.destroy();
    throw error;
  }
}

async function readTls(files: TlsFiles): Promise<{ ca?: Buffer; cert?: Buffer; key?: Buffer }> {
  const read: { ca?: Buffer; cert?: Buffer; key?: Buffer } = {};
  for (const name of ["ca", "cert", "key"] as const) {
    const path = files[name];
    // Without O_NONBLOCK, each attempt to open a FIFO would block one of libuv's few threads forever.
    if (path !== undefined)
      read[name] = await readFile(path, { flag: constants.O_RDONLY | constants.O_NONBLOCK });
  }
  return read;
}

function readApiVersion(value: unknown): string {
  if (isApiVersion(value)) return value;
  throw new JsonShapeError("version.ApiVersion", "a version such as 1.44", value);
}

function engineName(version: Fields): string {
  const [first] = Array.isArray(version.Components) ? version.Components : [];
  const title =
    typeof first === "object" && first !== null && "Name" in first ? String(first.Name) : "Engine";
  return `${title.replace(/ Engine$/, "").replace(/^Engine$/, "Docker")} ${String(version.Version ?? "")}`.trim();
}

function readList(answer: unknown): Listed[] {
  return list(answer, "the list of containers").map((entry) => {
    const item = object(entry, "a listed container");
    const settings = object(item.NetworkSettings ?? {}, "a listed container's NetworkSettings");
    const networks = object(settings.Networks ?? {}, "a listed container's Networks");
    const addresses = Object.values(networks).flatMap((value) => {
      const endpoint = object(value ?? {}, "a listed container's network");
      const found = [address(endpoint.IPAddress), address(endpoint.GlobalIPv6Address)];
      return found.filter((one) => one !== undefined);
    });
    // A linked container has a second name, `/other/alias`.
    const names = list(item.Names ?? [], "a listed container's Names").map((name) =>
      String(name).replace(/^\//, ""),
    );
    const name = names.find((one) => !one.includes("/")) ?? names[0] ?? "";
    return { id: string(item.Id, "a listed container's Id"), name, addresses };
  });
}

function readNetwork(answer: unknown): ReadonlyMap<string, Attachment> {
  const network = object(answer, "a network");
  const name = string(network.Name, "a network's Name");
  const attachments = new Map<string, Attachment>();
  for (const [id, value] of Object.entries(object(network.Containers ?? {}, "a network's Containers"))) {
    const endpoint = object(value, "a network's container");
    const ipv4 = address(endpoint.IPv4Address);
    const ipv6 = address(endpoint.IPv6Address);
    attachments.set(id, { network: name, ipv4, ipv6, mac: mac(endpoint.MacAddress) });
  }
  return attachments;
}

function readLinkNetworks(answer: unknown): string[] {
  return list(answer, "the list of networks").flatMap((entry) => {
    const network = object(entry, "a listed network");
    const driver = string(network.Driver, "a listed network's Driver");
    return /vlan$/.test(driver) ? [`${string(network.Name, "a listed network's Name")} (${driver})`] : [];
  });
}

function readBridges(answer: unknown): string[] {
  return list(answer, "the list of networks").flatMap((entry) => {
    const network = object(entry, "a listed network");
    // Other drivers take this option as well, and make no such bridge: the name may be that of the LAN's.
    if (network.Driver !== "bridge") return [];
    const options = object(network.Options ?? {}, "a listed network's Options");
    const name = options["com.docker.network.bridge.name"];
    return typeof name === "string" && name !== "" ? [name] : [];
  });
}

async function ifFound<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    // Podman 4 answers 500 for a container that is being removed.
    if (statusOf(error) === 404 || /no such container/.test(explain(error))) return undefined;
    throw error;
  }
}

/** The HTTP status of an engine's error response. Undefined if the engine did not answer at all. */
export function statusOf(error: unknown): number | undefined {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  if (!(cause instanceof Error) || !("statusCode" in cause)) return undefined;
  return typeof cause.statusCode === "number" ? cause.statusCode : undefined;
}

/** docker-modem's promises never settle if the engine hangs up in the middle of an answer. */
async function withTimeout<T>(timeoutMs: number, what: string, promise: Promise<T>): Promise<T> {
  const { promise: timeout, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`no answer in ${timeoutMs} ms`)), timeoutMs);
  try {
    return await Promise.race([promise, timeout]);
  } catch (cause) {
    throw new Error(what, { cause });
  } finally {
    clearTimeout(timer);
  }
}
