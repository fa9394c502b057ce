import { once } from "node:events";
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Test } from "tap";
import { type ForwardResult, Upstream, type UpstreamOptions } from "../../src/imds/upstream.ts";
import { MetadataClient } from "../../src/metadata/client.ts";

export type Reply = { readonly status: number; readonly retryAfter: string | undefined; readonly ms: number };

/** What 1,024 packets are, with five for each request. */
const packetLimit = 204;

/**
 * A metadata service that closes each connection, as the real one does, and counts what it is asked. With
 * `limited`, requests beyond the packet limit have no answer.
 */
export async function countingService(
  t: Test,
  answer: (request: IncomingMessage, response: ServerResponse) => unknown,
  limited = false,
) {
  const asked: { readonly path: string; readonly at: number }[] = [];
  const count = { puts: 0, connections: 0, mostConnections: 0, inFlight: 0, mostInFlight: 0, lost: 0 };
  const server = createServer(async (request, response) => {
    response.shouldKeepAlive = false;
    if (request.method === "PUT") {
      count.puts += 1;
      response.writeHead(200, { "X-Aws-Ec2-Metadata-Token-Ttl-Seconds": "21600" }).end("AQAtoken");
      return;
    }
    asked.push({ path: request.url ?? "", at: performance.now() });
    count.inFlight += 1;
    count.mostInFlight = Math.max(count.mostInFlight, count.inFlight);
    response.once("close", () => {
      count.inFlight -= 1;
    });
    const aSecondAgo = asked.at(-1 - packetLimit);
    if (limited && aSecondAgo !== undefined && performance.now() - aSecondAgo.at < 1000) count.lost += 1;
    else await answer(request, response);
  });
  server.on("connection", (socket) => {
    count.connections += 1;
    count.mostConnections = Math.max(count.mostConnections, count.connections);
    socket.once("close", () => {
      count.connections -= 1;
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, // an object for a TCP server
    asked,
    count,
  };
}

/** The proxy's side. The `X-Container` header stands for who asks. */
export async function fairProxy(
  t: Test,
  { endpoint, ...options }: Partial<UpstreamOptions> & { endpoint: string },
) {
  const metadata = new MetadataClient({ endpoint, now: () => performance.now() });
  const upstream = new Upstream({
    metadata,
    cacheSeconds: 60,
    requestsPerSecond: 100,
    now: () => performance.now(),
    ...options,
  });
  /** `code` and `reason` of a failure; `status` is what the client was sent. */
  const results: {
    readonly container: string;
    readonly path: string;
    readonly status: number;
    readonly code: string | undefined;
    readonly reason: string | undefined;
  }[] = [];
  const server = createServer(async (request, response) => {
    const container = String(request.headers["x-container"]);
    const path = request.url ?? "";
    const result: ForwardResult = await upstream.forward({ method: "GET", path, container }, response);
    const { code, reason } = result.ok ? { code: undefined, reason: undefined } : result;
    results.push({ container, path, status: response.statusCode, code, reason });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => {
    upstream.close();
    metadata.close();
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo; // an object for a TCP server
  return {
    upstream,
    results,
    port,
    ask: (container: string, path: string, agent: Agent | false = false) => ask(port, container, path, agent),
  };
}

function ask(port: number, container: string, path: string, agent: Agent | false): Promise<Reply> {
  const began = performance.now();
  return new Promise((resolve, reject) => {
    const headers = { "X-Container": container };
    const asking = request({ port, host: "127.0.0.1", path, headers, agent }, (answer) => {
      answer.resume();
      answer.once("error", reject);
      answer.once("end", () =>
        resolve({
          status: answer.statusCode ?? 0,
          retryAfter: answer.headers["retry-after"],
          ms: performance.now() - began,
        }),
      );
    });
    asking.on("error", reject);
    asking.end();
  });
}

/**
 * Asks for paths without end on so many connections, until stopped. Each waits a moment after an answer, so
 * that the test itself is not what is slow.
 */
export function hog(port: number, container: string, connections: number, path: (nth: number) => string) {
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  const statuses = new Map<number, number>();
  let nth = 0;
  let running = true;
  const lane = async () => {
    while (running) {
      const status = await ask(port, container, path(nth++), agent).then(
        (reply) => reply.status,
        () => 0,
      );
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      await sleep(500);
    }
  };
  const lanes = Array.from({ length: connections }, lane);
  return {
    statuses,
    stop: async () => {
      running = false;
      agent.destroy();
      await Promise.all(lanes);
    },
  };
}

/** What a container that asks every so often experiences, on new connections. */
export async function steadily(ms: number, everyMs: number, once: (nth: number) => Promise<Reply>) {
  const replies: Reply[] = [];
  const asking: Promise<unknown>[] = [];
  const began = performance.now();
  for (let nth = 0; performance.now() - began < ms; nth++) {
    asking.push(
      once(nth).then(
        (reply) => replies.push(reply),
        () => replies.push({ status: 0, retryAfter: undefined, ms: 0 }),
      ),
    );
    await sleep(everyMs);
  }
  await Promise.all(asking);
  const sorted = replies.map((reply) => reply.ms).toSorted((a, b) => a - b);
  return {
    count: replies.length,
    failures: replies.filter(({ status }) => status !== 200).length,
    p50: sorted[Math.floor(sorted.length * 0.5)] ?? Number.NaN,
    p99: sorted[Math.floor(sorted.length * 0.99)] ?? Number.NaN,
  };
}

/** Sends requests on one connection and never reads an answer. */
export function neverReads(t: Test, port: number, container: string, path: string, requests = 1): Socket {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => undefined);
  socket.pause();
  socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nX-Container: ${container}\r\n\r\n`.repeat(requests));
  t.teardown(() => socket.destroy());
  return socket;
}

export async function until(what: () => boolean, ms = 5000): Promise<void> {
  const began = performance.now();
  while (!what()) {
    if (performance.now() - began > ms) throw new Error(`not so after ${ms} ms: ${what}`);
    await sleep(5);
  }
}
