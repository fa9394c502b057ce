import type { IncomingMessage } from "node:http";
import { MetadataError } from "./error.ts";

/** Enough for an error page; a connection with more than this to read is not worth keeping. */
const drainBytes = 64 * 1024;
const drainMs = 5_000;

/**
 * Reads a whole body. Rejects with a MetadataError, and closes the connection, if the body is longer than
 * `limit` bytes, is cut short, or is not complete within `timeoutMs`.
 */
export function readBody(answer: IncomingMessage, limit: number, timeoutMs: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const fail = (why: string, cause?: unknown) => {
      clearTimeout(deadline);
      answer.destroy();
      reject(new MetadataError("bad-answer", `reading the metadata service's answer: ${why}`, { cause }));
    };
    const deadline = setTimeout(() => fail(`not complete after ${timeoutMs} ms`), timeoutMs);
    if (Number(answer.headers["content-length"]) > limit) {
      fail(`more than ${limit} bytes`);
      return;
    }
    answer.on("data", (chunk: Buffer) => {
      length += chunk.length;
      if (length > limit) fail(`more than ${limit} bytes`);
      else chunks.push(chunk);
    });
    answer.once("end", () => {
      clearTimeout(deadline);
      const [only] = chunks;
      resolve(chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks));
    });
    answer.once("error", (error) => fail("it was cut short", error));
    answer.once("close", () => {
      if (!answer.complete) fail("it was cut short");
    });
  });
}

/** Discards a body, within limits, so that its connection can be reused. */
export function drain(answer: IncomingMessage): void {
  readBody(answer, drainBytes, drainMs).catch(() => undefined);
}
