import { constants } from "node:fs";
import { readFile } from "node:fs/promises";
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { Readable } from "node:stream";
import { inspect } from "node:util";
import Docker from "dockerode";
import { type Attachment, engineAddress } from "../containers/container.ts";
import { explain } from "../errors.ts";
import type { Endpoint } from "./endpoint.ts";
import { eventFilters, lines } from "./events.ts";
import { type Inspected, readInspect } from "./inspect.ts";
import { list, object, string, WireError } from "./json.ts";

/** File paths, as in the Docker CLI's DOCKER_CERT_PATH. */
export type TlsFiles = { readonly ca?: string; readonly cert?: string; readonly key?: string };

/** A running container as a list shows it; enough to see whether what we know of it still holds. */
export type Listed = { readonly id: string; readonly name: string; readonly addresses: readonly string[] };

/** One engine's API over one set of connections. Each call rejects after its time limit; nothing it does is retried here. */
export type Engine = {
  /** What was negotiated, e.g. `1.44`. */
  readonly apiVersion: string;
  /** As the engine names itself: `Docker 20.10.24`, `Podman 4.3.1`. */
  readonly name: string;
  running(): Promise<Listed[]>;
  /** Undefined where there is no such container. */
  inspect(id: string): Promise<Inspected | undefined>;
  /** The attachments of a network's containers by container id; undefined where there is no such network. */
  network(idOrName: string): Promise<ReadonlyMap<string, Attachment> | undefined>;
  /** Networks that put their containers beside the host instead of behind it (macvlan, ipvlan), as `name (driver)`. */
  linkNetworks(): Promise<string[]>;
  /** The lines of the event stream, from `sinceSeconds` (epoch) on. Resolves when the engine has begun to answer. */
  events(sinceSeconds: number): Promise<AsyncGenerator<string>>;
  /** Ends every connection; what is under way rejects. */
  close(): void;
};

type ConnectOptions = { readonly endpoint: Endpoint; readonly tls: TlsFiles; readonly callTimeoutMs: number };

/** What we were written for and tested with. An engine beyond the range is asked for the nearest version that it speaks. */
const oldestApi = "1.41";
const newestApi = "1.52";
const maxEventBytes = 1024 * 1024;

/**
 * docker-modem describes each request for its debug log, whether that is on or not, with all that the agent holds: its sockets, their parsers, their
 * buffers. That was most of what a call cost us, 10 ms and more.
 */
const brief = { [inspect.custom]: () => "Agent" };

/** Connects to an engine and agrees on an API version. */
export async function connectEngine({ endpoint, tls, callTimeoutMs }: ConnectOptions): Promise<Engine> {
  const files = await within(callTimeoutMs, "reading dockerTls", readTls(tls));
  const agentOptions = { keepAlive: true, maxSockets: 32, ...files };
  const isTls = endpoint.kind === "tcp" && endpoint.tls;
  const agent = Object.assign(isTls ? new HttpsAgent(agentOptions) : new HttpAgent(agentOptions), brief);
  // Written out, undefined too: docker-modem takes what is not given from DOCKER_HOST and its companions in the environment.
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
  const call = <T>(what: string, promise: Promise<T>) => within(callTimeoutMs, what, promise);
  try {
    // The only path without a version: it is how the version is learnt.
    const answer: unknown = await call("asking for its version", client(undefined, callTimeoutMs).version());
    const about = object(answer, "version");
    const apiVersion = negotiate(readVersion(about.ApiVersion), about.MinAPIVersion);
    const calls = client(`v${apiVersion}`, callTimeoutMs);
    // No idle limit on this one: a quiet host has no events for hours.
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
      events: async (since) => {
        const asked = streaming.getEvents({ since, filters: eventFilters });
        const stream = await call("asking for events", asked);
        // The types promise the base interface only; docker-modem hands over node:http's IncomingMessage.
        if (!(stream instanceof Readable)) throw new Error("asking for events: the answer is no stream");
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
    // Without NONBLOCK a FIFO in its place would hold one of the few threads for ever, and one more at each attempt.
    if (path !== undefined)
      read[name] = await readFile(path, { flag: constants.O_RDONLY | constants.O_NONBLOCK });
  }
  return read;
}

function readVersion(value: unknown): string {
  if (typeof value === "string" && /^\d+\.\d+$/.test(value)) return value;
  throw new WireError("version.ApiVersion", "a version such as 1.44", value);
}

/**
 * The newest version that both sides know. An engine whose oldest is newer than ours is asked for its oldest, one that is older than all of
 * ours for what it has: what we read has been the same for many versions, and every answer's shape is checked.
 */
export function negotiate(engines: string, enginesOldest: unknown): string {
  const newest = compareVersions(engines, newestApi) < 0 ? engines : newestApi;
  if (typeof enginesOldest !== "string" || !/^\d+\.\d+$/.test(enginesOldest)) return newest;
  return compareVersions(newest, enginesOldest) < 0 ? enginesOldest : newest;
}

/** Whether an engine is of the range that we were tested with; others are worth a warning. */
export function isTestedApi(version: string): boolean {
  return compareVersions(version, oldestApi) >= 0 && compareVersions(version, newestApi) <= 0;
}

function compareVersions(a: string, b: string): number {
  const [aMajor = 0, aMinor = 0] = a.split(".").map(Number);
  const [bMajor = 0, bMinor = 0] = b.split(".").map(Number);
  return aMajor - bMajor || aMinor - bMinor;
}

function engineName(version: Readonly<Record<string, unknown>>): string {
  const components = Array.isArray(version.Components) ? version.Components : [];
  const first: unknown = components[0];
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
      const found = [engineAddress(endpoint.IPAddress), engineAddress(endpoint.GlobalIPv6Address)];
      return found.filter((address) => address !== undefined);
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
    const ipv4 = engineAddress(endpoint.IPv4Address);
    attachments.set(id, { network: name, ipv4, ipv6: engineAddress(endpoint.IPv6Address) });
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

async function ifFound<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    // Podman 4 answers 500 for a container that is removed just then.
    if (statusOf(error) === 404 || /no such container/.test(explain(error))) return undefined;
    throw error;
  }
}

/** The HTTP status with which the engine refused; undefined where it did not answer at all. */
export function statusOf(error: unknown): number | undefined {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  if (!(cause instanceof Error) || !("statusCode" in cause)) return undefined;
  return typeof cause.statusCode === "number" ? cause.statusCode : undefined;
}

/** docker-modem's promises never settle when the engine hangs up in the middle of an answer: each has a limit of its own here. */
async function within<T>(timeoutMs: number, what: string, promise: Promise<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`no answer in ${timeoutMs} ms`)), timeoutMs);
  try {
    return await Promise.race([promise, late]);
  } catch (cause) {
    throw new Error(what, { cause });
  } finally {
    clearTimeout(timer);
  }
}
