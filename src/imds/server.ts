import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createAcceptor, type Server, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { canonicalAddress } from "../config/address.ts";
import type { Admission } from "./admission.ts";
import type { Answer } from "./answers.ts";
import { endsEmpty, framingOf } from "./framing.ts";
import type { Refusal } from "./refusals.ts";

/**
 * Most SDKs close an idle connection sooner, so the client is the one to close. Go v2's pool keeps idle
 * connections for 90 s (aws/aws-sdk-go-v2#3423); it then finds the connection closed and opens another.
 */
const keepAliveTimeoutMs = 75_000;

/** Real requests take a few hundred bytes; a session token has 56 characters. */
const maxHeaderBytes = 8 * 1024;

/** SDKs have limits of 1 to 5 seconds themselves. */
const requestTimeoutMs = 5_000;

/** While draining: how long a connection without a request is kept, because one may be on its way. */
const lastRequestMs = 250;

/**
 * A connection on which an answer makes no progress for this long is closed: a client that does not read
 * holds memory. Longer than any wait in the proxy.
 */
const stalledMs = 15_000;

/**
 * Bytes of answers that may be queued on one connection before no more requests are read from it. Most
 * answers have 1 to 2 kB.
 */
const maxQueuedAnswers = 16 * 1024;

/** How long to wait for the end of a body that should be empty. */
const emptyBodyMs = 1_000;

/**
 * The HTTP server of the metadata service: limits and lifetimes of connections. The handler decides what is
 * answered.
 */
export type ImdsServer = {
  readonly server: Server;
  /** Open client connections. */
  connections(): number;
  /**
   * Stops accepting, lets requests in progress finish, closes idle connections soon and all others after
   * `graceMs`. A listening socket from systemd stays open there, so new clients wait in its queue.
   */
  drain(graceMs: number): Promise<void>;
};

/** @param answerTo how this listener answers a connection that no handler sees */
export function imdsServer(
  handle: (request: IncomingMessage, response: ServerResponse) => void,
  admission: Admission,
  answerTo: (refusal: Refusal) => Answer,
): ImdsServer {
  const open = new Set<Socket>();
  const { shares, rejections, strangers } = admission;
  let isDraining = false;
  const http = createServer(
    {
      keepAliveTimeout: keepAliveTimeoutMs,
      headersTimeout: requestTimeoutMs,
      requestTimeout: requestTimeoutMs,
      maxHeaderSize: maxHeaderBytes,
      connectionsCheckingInterval: 1_000,
      highWaterMark: maxQueuedAnswers,
      // Otherwise Node answers such a request itself, before the listener below can count it.
      requireHostHeader: false,
    },
    (request, response) => {
      const { socket } = request;
      // Makes the client reconnect, to the process that replaces this one.
      if (isDraining) response.shouldKeepAlive = false;
      if (!shares.take(socket)) return;
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
    if (!response.writableEnded) shares.pending(request.socket, response);
  };
  /**
   * Sends 400 and closes. If an earlier request is unanswered, only closes: the client would take the 400 for
   * its answer.
   */
  const closeWith400 = (socket: Socket) => {
    if (shares.pendingOf(socket) > 0) socket.destroy();
    else rejections.answerAndDestroy(socket, answerTo(noRequest));
  };
  /** Closes before the parser processes what follows. */
  const refuseBody = (socket: Socket) => {
    closeWith400(socket);
    shares.penalise(socket);
  };
  const refuseMalformed = (socket: Duplex) => {
    if (!(socket instanceof Socket)) {
      socket.destroy();
      return;
    }
    shares.malformed(socket);
    closeWith400(socket);
  };
  const reject = (socket: Socket, address: string, share: string, refusal: Refusal) => {
    admission.recordRejection(address, refusal);
    rejections.answer(socket, answerTo(refusal), share);
  };
  const admit = (socket: Socket, address: string, share: string) => {
    const begin = () => {
      if (socket.destroyed) return;
      http.emit("connection", socket);
      socket.resume();
    };
    if (!shares.enter(socket, share, begin)) reject(socket, address, share, tooManyConnections);
  };
  // Not http's own listener: a connection that is not admitted yet is not read from and has no parser.
  const server = createAcceptor({
    allowHalfOpen: true,
    noDelay: true,
    pauseOnConnect: true,
    highWaterMark: maxQueuedAnswers,
  });
  // http then starts to check for requests that do not arrive in time.
  server.on("listening", () => http.emit("listening"));
  server.on("connection", (socket: Socket) => {
    // Node removes its own listener before `connect` and `upgrade`; a reset after that would end the process.
    socket.on("error", () => undefined);
    open.add(socket);
    socket.once("close", () => open.delete(socket));
    const address = canonicalAddress(socket.remoteAddress ?? "");
    if (address === undefined) {
      socket.destroy();
      return;
    }
    const share = admission.shareOf(address);
    if (share !== undefined) {
      admit(socket, address, share);
      return;
    }
    strangers.wait(
      socket,
      address,
      () => admission.awaitContainer(address),
      (refusal) => {
        if (refusal === undefined) admit(socket, address, admission.shareOf(address) ?? address);
        else reject(socket, address, strangersShare, refusal);
      },
    );
  });
  // A tunnel through a metadata service is never legitimate. An upgrade to another protocol is not answered
  // either, but is no reason to refuse the request (RFC 9110, 7.8): some clients offer HTTP/2 with each, and
  // without a listener for it Node treats the request as an ordinary one.
  http.on("connect", (_request, socket) => refuseMalformed(socket));
  http.on("clientError", (_error, socket) => refuseMalformed(socket));
  // Node would answer 417 itself, keep the connection open and read the body.
  http.on("checkExpectation", ({ socket }: IncomingMessage) => {
    if (shares.take(socket)) refuseBody(socket);
  });
  return {
    server,
    connections: () => open.size,
    drain: (graceMs) =>
      new Promise((resolve) => {
        isDraining = true;
        // At the end of the interval, not at once: a request may be on its way.
        const idle = setInterval(() => http.closeIdleConnections(), Math.min(lastRequestMs, graceMs));
        // Not closeAllConnections(): it does not know connections that requested a tunnel.
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

/** The key of the share of all unknown addresses. */
const strangersShare = "";

const noRequest: Refusal = {
  code: "no-request",
  reason: "not a metadata request; those are HTTP and have no body",
};

const tooManyConnections: Refusal = {
  code: "too-many-connections",
  reason:
    "the container has more than limits.connections connections, or more than its share of what the process may open",
};
