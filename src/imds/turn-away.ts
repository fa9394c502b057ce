import { STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { type Answer, retryAfterSeconds } from "./answers.ts";

/** Why a connection is not served, before anything was read from it. */
export type TurnedAway = {
  readonly status: 400 | 403 | 503;
  readonly code: string;
  readonly reason: string;
};

/** How long a client that was turned away may take to read why. */
const lingerMs = 250;
/** Before it is told that there is no room: who is told at once comes back at once. SDKs wait a second. */
const fullAfterMs = 300;
export type TurnAwayLimits = {
  /** Connections of all together that may be kept until they have read why. Who comes beyond them is told, and not waited for. */
  readonly total: number;
  /** Of one share. */
  readonly perShare: number;
};

/**
 * Answers connections without a handler, and closes them: what is no request, what there is no room for, and what is nobody's.
 * Nothing more is read from them.
 */
export class TurnAway {
  readonly #limits: TurnAwayLimits;
  readonly #byShare = new Map<string, number>();
  #count = 0;

  constructor(limits: TurnAwayLimits) {
    this.#limits = limits;
  }

  /** Whether the client reads it and closes too or not. `share`: by whose the time counts in which that may happen. */
  answer(socket: Duplex, answer: Answer, share: string): void {
    const own = this.#byShare.get(share) ?? 0;
    if (!socket.writable || this.#count >= this.#limits.total || own >= this.#limits.perShare) {
      this.answerAndDestroy(socket, answer);
      return;
    }
    this.#count += 1;
    this.#byShare.set(share, own + 1);
    const say = () => {
      socket.end(textOf(answer), "latin1");
      setTimeout(end, lingerMs).unref();
    };
    // One that has gone by itself counts until then too: that bounds how often this can be had in a second.
    const end = () => {
      this.#count -= 1;
      const left = (this.#byShare.get(share) ?? 1) - 1;
      if (left === 0) this.#byShare.delete(share);
      else this.#byShare.set(share, left);
      socket.destroy();
    };
    if (answer.status === 503) setTimeout(say, fullAfterMs).unref();
    else say();
  }

  /** At once, and gone at once: every byte that this client sends costs more than it is told. */
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
