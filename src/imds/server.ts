import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { Server as NetServer, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { FairShare } from "./fair-share.ts";

/** Longer than any SDK's connection pool keeps an idle connection, so that the client is the one to close. */
const keepAliveTimeoutMs = 75_000;

/** Real requests take a few hundred bytes; a session token is 56 characters. */
const maxHeaderBytes = 8 * 1024;

/** A client that has not sent its request by then is no SDK: their own limits are 1 to 5 seconds. */
const requestTimeoutMs = 5_000;

/** How long a client that was refused may take to read why. */
const lingerMs = 1_000;

/** While draining: how long a connection without a request is kept, for one that is on its way. */
const lastRequestMs = 250;

export type ServerLimits = {
  /** Connections of one address at one time. */
  readonly connectionsPerAddress: number;
  /** How long an address is not read from that pipelined too much. Default 10 s. */
  readonly penaltyMs?: number;
};

/** The HTTP server of the metadata service: limits and life of connections; what is answered is the handler's. */
export type ImdsServer = {
  readonly server: Server;
  /** Open client connections. */
  connections(): number;
  /**
   * Stops accepting, lets requests in progress end, closes idle connections soon and all others after `graceMs`.
   * The listening socket itself belongs to systemd where it was handed over, so that new clients wait in its queue.
   */
  drain(graceMs: number): Promise<void>;
};

export function imdsServer(
  handle: (request: IncomingMessage, response: ServerResponse) => void,
  limits: ServerLimits,
): ImdsServer {
  const open = new Set<Socket>();
  const fair = new FairShare(limits.connectionsPerAddress, limits.penaltyMs);
  let draining = false;
  const server = createServer(
    {
      keepAliveTimeout: keepAliveTimeoutMs,
      headersTimeout: requestTimeoutMs,
      requestTimeout: requestTimeoutMs,
      maxHeaderSize: maxHeaderBytes,
      connectionsCheckingInterval: 1_000,
      noDelay: true,
    },
    (request, response) => {
      // The client learns that it is to connect again, to the process that comes after this one.
      if (draining) response.shouldKeepAlive = false;
      if (!fair.take(request.socket)) return;
      handle(request, response);
      if (!response.writableEnded) fair.pending(request.socket, response);
    },
  );
  server.on("connection", (socket: Socket) => {
    if (!fair.enter(socket)) {
      socket.destroy();
      return;
    }
    open.add(socket);
    // Node takes its own listener away before `connect` and `upgrade`: a client that then resets would end the process.
    socket.on("error", () => undefined);
    socket.once("close", () => open.delete(socket));
  });
  // A tunnel or another protocol through a metadata service is never wanted; without these listeners Node would hand the socket over or hang.
  server.on("connect", (_request, socket) => refuse(socket));
  server.on("upgrade", (_request, socket) => refuse(socket));
  server.on("clientError", (_error, socket) => refuse(socket));
  return {
    server,
    connections: () => open.size,
    drain: (graceMs) =>
      new Promise((resolve) => {
        draining = true;
        // Not http's own close(): it resets connections that were accepted and whose first request has not been read yet.
        const idle = setInterval(() => server.closeIdleConnections(), Math.min(lastRequestMs, graceMs));
        // Not closeAllConnections(): it does not know those that asked for a tunnel.
        const all = setTimeout(() => {
          for (const socket of open) socket.destroy();
        }, graceMs);
        NetServer.prototype.close.call(server, () => {
          clearInterval(idle);
          clearTimeout(all);
          resolve();
        });
      }),
  };
}

/** Says 400 and closes, whether the client reads it and closes too or not. */
function refuse(socket: Duplex): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  socket.end(badRequest);
  setTimeout(() => socket.destroy(), lingerMs).unref();
}

const badRequest =
  "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 0\r\nServer: EC2ws\r\nConnection: close\r\n\r\n";
