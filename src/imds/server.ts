import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createAcceptor, type Server, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { canonicalAddress } from "../config/address.ts";
import type { Answer } from "./answers.ts";
import type { Door } from "./door.ts";
import { endsEmpty, framingOf } from "./framing.ts";
import type { TurnedAway } from "./turn-away.ts";

/** Longer than any SDK's connection pool keeps an idle connection, so that the client is the one to close. */
const keepAliveTimeoutMs = 75_000;

/** Real requests take a few hundred bytes; a session token is 56 characters. */
const maxHeaderBytes = 8 * 1024;

/** A client that has not sent its request by then is no SDK: their own limits are 1 to 5 seconds. */
const requestTimeoutMs = 5_000;

/** While draining: how long a connection without a request is kept, for one that is on its way. */
const lastRequestMs = 250;

/** A request whose answer makes no progress for so long is given up: a client that does not read holds memory. Longer than any wait of ours. */
const stalledMs = 15_000;

/** Bytes of answers that may wait for one connection before nothing more is read from it. Most answers have 1 to 2 kB. */
const answersAhead = 16 * 1024;

/** How long the end of a body may take that was announced and is to be empty. */
const emptyBodyMs = 1_000;

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

/** @param sayTo what this server's clients are told of a connection that no handler sees */
export function imdsServer(
  handle: (request: IncomingMessage, response: ServerResponse) => void,
  door: Door,
  sayTo: (refused: TurnedAway) => Answer,
): ImdsServer {
  const open = new Set<Socket>();
  const { fair, turnAway } = door;
  let draining = false;
  const http = createServer(
    {
      keepAliveTimeout: keepAliveTimeoutMs,
      headersTimeout: requestTimeoutMs,
      requestTimeout: requestTimeoutMs,
      maxHeaderSize: maxHeaderBytes,
      connectionsCheckingInterval: 1_000,
      highWaterMark: answersAhead,
      // Else Node answers such a request by itself, past the listener below and whatever it counts.
      requireHostHeader: false,
    },
    (request, response) => {
      const { socket } = request;
      // The client learns that it is to connect again, to the process that comes after this one.
      if (draining) response.shouldKeepAlive = false;
      if (!fair.take(socket)) return;
      if (request.httpVersion === "1.1" && request.headers.host === undefined) {
        refuseBody(socket);
        return;
      }
      switch (framingOf(request)) {
        case "none":
          answer(request, response);
          return;
        case "empty chunks to come":
          void endsEmpty(request, emptyBodyMs).then((isEmpty) => {
            if (isEmpty) answer(request, response);
            else refuseBody(socket);
          });
          return;
        case "body":
          refuseBody(socket);
          return;
      }
    },
  );
  http.timeout = stalledMs;
  const answer = (request: IncomingMessage, response: ServerResponse) => {
    handle(request, response);
    if (!response.writableEnded) fair.pending(request.socket, response);
  };
  /** Says 400 and ends the connection. With a request before it unanswered, that would be taken for the answer to that one. */
  const endWith400 = (socket: Socket) => {
    if (fair.pendingOf(socket) > 0) socket.destroy();
    else turnAway.answerAndDestroy(socket, sayTo(noRequest));
  };
  /** Before the parser takes apart what follows. */
  const refuseBody = (socket: Socket) => {
    endWith400(socket);
    fair.penalise(socket);
  };
  const refuse = (socket: Duplex) => {
    if (!(socket instanceof Socket)) {
      socket.destroy();
      return;
    }
    fair.malformed(socket);
    endWith400(socket);
  };
  const reject = (socket: Socket, address: string, share: string, refused: TurnedAway) => {
    door.turnedAway(address, refused);
    turnAway.answer(socket, sayTo(refused), share);
  };
  const letIn = (socket: Socket, address: string, share: string) => {
    const begin = () => {
      if (socket.destroyed) return;
      http.emit("connection", socket);
      socket.resume();
    };
    if (!fair.enter(socket, share, begin)) reject(socket, address, share, tooMany);
  };
  // Not http's own: a connection that is not let in, or not yet, is not read from and has no parser.
  const server = createAcceptor({
    allowHalfOpen: true,
    noDelay: true,
    pauseOnConnect: true,
    highWaterMark: answersAhead,
  });
  // It looks for requests that do not end from here on.
  server.on("listening", () => http.emit("listening"));
  server.on("connection", (socket: Socket) => {
    // Node takes its own listener away before `connect` and `upgrade`: a client that then resets would end the process.
    socket.on("error", () => undefined);
    open.add(socket);
    socket.once("close", () => open.delete(socket));
    const address = canonicalAddress(socket.remoteAddress ?? "");
    if (address === undefined) {
      socket.destroy();
      return;
    }
    const share = door.shareOf(address);
    if (share !== undefined) {
      letIn(socket, address, share);
      return;
    }
    door.strangers.wait(
      socket,
      address,
      () => door.wordOf(address),
      (refused) => {
        if (refused === undefined) letIn(socket, address, door.shareOf(address) ?? address);
        else reject(socket, address, strangers, refused);
      },
    );
  });
  // A tunnel through a metadata service is never wanted. An upgrade to another protocol is not answered either, but is no reason to refuse the
  // request (RFC 9110, 7.8): some clients offer HTTP/2 with each, and without a listener Node takes it for an ordinary one.
  http.on("connect", (_request, socket) => refuse(socket));
  http.on("clientError", (_error, socket) => refuse(socket));
  // What Node would answer 417 by itself, without an end of the connection, and read the body of.
  http.on("checkExpectation", ({ socket }: IncomingMessage) => {
    if (fair.take(socket)) refuseBody(socket);
  });
  return {
    server,
    connections: () => open.size,
    drain: (graceMs) =>
      new Promise((resolve) => {
        draining = true;
        // At the end of the interval, not at once: a request may be on its way.
        const idle = setInterval(() => http.closeIdleConnections(), Math.min(lastRequestMs, graceMs));
        // Not closeAllConnections(): it does not know those that asked for a tunnel.
        const all = setTimeout(() => {
          for (const socket of open) socket.destroy();
        }, graceMs);
        server.close(() => {
          clearInterval(idle);
          clearTimeout(all);
          resolve();
        });
      }),
  };
}

/** The share of all who are nobody's. */
const strangers = "";

const noRequest: TurnedAway = {
  status: 400,
  code: "no-request",
  reason: "this is no request of a metadata client; those have no body",
};

const tooMany: TurnedAway = {
  status: 503,
  code: "too-many-connections",
  reason:
    "the container has more than limits.connections connections, or more than its part of what all may have",
};
