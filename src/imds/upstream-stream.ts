import type { IncomingMessage, ServerResponse } from "node:http";
import { readBody } from "../metadata/body.ts";
import type { MetadataClient, Meter } from "../metadata/client.ts";
import { type Answer, ttlHeader } from "./answers.ts";
import { instead, isPassed, passed, UpstreamBusy, UpstreamError, whole } from "./upstream-answer.ts";
import type { Unread } from "./upstream-unread.ts";

/** User-data has at most 16 KiB, the largest of the rest (a certificate chain) a few more. */
export const longestBody = 1024 * 1024;
/** Shorter ones are sent in one piece, with the certainty that they are complete. */
const streamedFrom = 64 * 1024;

export type StreamRequest = {
  readonly method: "GET" | "HEAD";
  readonly path: string;
  readonly range?: string | undefined;
  readonly tokenSecondsLeft?: number | undefined;
  readonly container: string;
};

/** An answer that is still to be sent, or one that was handed over to the client's connection while it came. */
export type Streamed = Answer | { readonly status: number; readonly bytes: number };

/**
 * Asks for one client alone: when it goes away, so does the question. Settles when the service has said all, however slowly the client reads:
 * the connection to the service is free for others then.
 */
export async function stream(
  the: {
    readonly metadata: Pick<MetadataClient, "forward">;
    readonly meter: Meter;
    readonly unread: Unread;
    readonly timeoutMs: number;
  },
  request: StreamRequest,
  response: ServerResponse,
): Promise<Streamed> {
  const { method, path, container } = request;
  const left = new AbortController();
  const leave = () => left.abort(new Error("the client went away"));
  response.once("close", leave);
  try {
    const range = safeRange(request.range);
    const upstream = await the.metadata.forward({
      method,
      path,
      range,
      signal: left.signal,
      timeoutMs: the.timeoutMs,
      meter: the.meter,
    });
    if (!isPassed(upstream)) return instead(upstream, path);
    const status = upstream.statusCode ?? 502;
    const length = Number(upstream.headers["content-length"] ?? Number.NaN);
    if (length > longestBody) {
      upstream.destroy();
      throw new UpstreamError(
        502,
        `forwarding ${path}: the answer has ${length} bytes, more than ${longestBody}`,
      );
    }
    if (method === "GET" && !(length >= streamedFrom))
      return whole(upstream, await readBody(upstream, longestBody, the.timeoutMs));
    const bytes = method === "HEAD" ? 0 : length;
    if (!the.unread.hold(container, bytes, response)) {
      upstream.destroy();
      throw new UpstreamBusy(`forwarding ${path}: too much was not read yet of what it was sent`);
    }
    const headers = passed(upstream, Number.isNaN(length) ? undefined : length);
    if (request.tokenSecondsLeft !== undefined) headers.push(ttlHeader, String(request.tokenSecondsLeft));
    response.writeHead(status, headers);
    await handOver(upstream, response, left.signal, the.timeoutMs);
    return { status, bytes };
  } finally {
    response.off("close", leave);
  }
}

/** Without back pressure: the bytes are counted, and few. */
function handOver(
  upstream: IncomingMessage,
  response: ServerResponse,
  left: AbortSignal,
  timeoutMs: number,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (why: string) => {
      clearTimeout(deadline);
      upstream.destroy();
      reject(new UpstreamError(502, `forwarding the metadata service's answer: ${why}`));
    };
    const deadline = setTimeout(() => fail(`not complete after ${timeoutMs} ms`), timeoutMs);
    left.addEventListener("abort", () => fail("the client went away"), { once: true });
    upstream.on("data", (chunk: Buffer) => response.write(chunk));
    upstream.once("end", () => {
      clearTimeout(deadline);
      response.end();
      resolve();
    });
    upstream.once("error", () => fail("it was cut short"));
    upstream.once("close", () => {
      if (!upstream.complete) fail("it was cut short");
    });
  });
}

/** Waits for the client to take what it was sent. Rejects with UpstreamError if it does not in time, or goes away. */
export function taken(response: ServerResponse, path: string, timeoutMs: number): Promise<void> {
  if (response.writableFinished) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const settle = (why?: string) => {
      clearTimeout(deadline);
      response.off("close", closed);
      if (why === undefined) resolve();
      else reject(new UpstreamError(502, `forwarding ${path}: ${why}`));
    };
    const closed = () => settle(response.writableFinished ? undefined : "the client went away");
    const deadline = setTimeout(() => settle(`the client has not read it after ${timeoutMs} ms`), timeoutMs);
    response.once("close", closed);
    if (response.destroyed) closed();
  });
}

function safeRange(range: string | undefined): string | undefined {
  return range !== undefined && /^bytes=[\d, -]{1,64}$/.test(range) ? range : undefined;
}
