import { STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { type Answer, retryAfterSeconds } from "./answers.ts";

/** How long a rejected client may take to read the answer. */
const lingerMs = 250;
/** Delay before a 503: a client that is rejected at once reconnects at once. SDKs wait a second. */
const rejectAfterMs = 300;

export type RejectionLimits = {
  /**
   * Connections in total that are held until the client has read the answer. Beyond it the answer is sent,
   * and the connection closed at once.
   */
  readonly total: number;
  readonly perShare: number;
};

/**
 * Answers connections without a handler and closes them: bytes that are not a request, too many connections,
 * and unknown addresses. Nothing more is read from them.
 */
export class Rejections {
  readonly #limits: RejectionLimits;
  readonly #byShare = new Map<string, number>();
  #count = 0;

  constructor(limits: RejectionLimits) {
    this.#limits = limits;
  }

  /**
   * Answers, and closes the connection after a moment, whether or not the client has read the answer.
   * @param share key of the share whose limit counts
   */
  answer(socket: Duplex, answer: Answer, share: string): void {
    const held = this.#byShare.get(share) ?? 0;
    if (!socket.writable || this.#count >= this.#limits.total || held >= this.#limits.perShare) {
      this.answerAndDestroy(socket, answer);
      return;
    }
    this.#count += 1;
    this.#byShare.set(share, held + 1);
    const send = () => {
      socket.end(textOf(answer), "latin1");
      setTimeout(close, lingerMs).unref();
    };
    // A client that closes early counts until then too. That limits how many of these it can cause in a
    // second.
    const close = () => {
      this.#count -= 1;
      const left = (this.#byShare.get(share) ?? 1) - 1;
      if (left === 0) this.#byShare.delete(share);
      else this.#byShare.set(share, left);
      socket.destroy();
    };
    if (answer.status === 503) setTimeout(send, rejectAfterMs).unref();
    else send();
  }

  /** Answers and closes at once: each further byte from this client costs more than the answer is worth. */
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
