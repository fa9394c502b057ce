import { STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import type { Answer } from "./errors.ts";

/** Why a connection is not served, before anything was read from it. */
export type TurnedAway = {
  readonly status: 400 | 403 | 503;
  readonly code: string;
  readonly reason: string;
};

/** How long a client that was turned away may take to read why. */
const lingerMs = 250;
/** So many at a time; who comes beyond them is told nothing. */
const mostLingering = 256;

/** When a client that was told "full" or "not yet" had better come again. SDKs that retry wait about as long by themselves. */
export const retryAfterSeconds = 1;

/**
 * Answers connections without a handler, and closes them: what is no request, what there is no room for, and what is nobody's.
 * Nothing more is read from them.
 */
export class TurnAway {
  #lingering = 0;

  /** Whether the client reads it and closes too or not. */
  answer(socket: Duplex, answer: Answer): void {
    if (!socket.writable || this.#lingering >= mostLingering) {
      socket.destroy();
      return;
    }
    this.#lingering += 1;
    // A destroyed one still counts until then: that bounds how often this can be had in a second.
    setTimeout(() => {
      this.#lingering -= 1;
      socket.destroy();
    }, lingerMs).unref();
    socket.end(textOf(answer), "latin1");
  }

  /** The same, and gone at once: every byte that this client sends costs more than it is told. */
  answerAndDestroy(socket: Duplex, answer: Answer): void {
    if (socket.writable) socket.end(textOf(answer), "latin1");
    socket.destroy();
  }
}

function textOf({ status, headers, body }: Answer): string {
  const lines = [`HTTP/1.1 ${status} ${STATUS_CODES[status]}`];
  for (let at = 0; at < headers.length; at += 2) lines.push(`${headers[at]}: ${headers[at + 1]}`);
  if (status === 503) lines.push(`Retry-After: ${retryAfterSeconds}`);
  return [...lines, "Connection: close", "", body].join("\r\n");
}
