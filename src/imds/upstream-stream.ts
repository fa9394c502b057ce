import type { IncomingMessage, ServerResponse } from "node:http";
import { readBody } from "../metadata/body.ts";
import type { ForwardedRequest, MetadataClient, Meter } from "../metadata/client.ts";
import { type Answer, ttlHeader } from "./answers.ts";
import { instead, isPassed, passed, UpstreamBusy, UpstreamError, whole } from "./upstream-answer.ts";
import type { Unread } from "./upstream-unread.ts";

/** User-data has at most 16 KiB; the largest other answer (a certificate chain) has a little more. */
export const longestBody = 1024 * 1024;
/** Shorter answers are read whole first, so the client never gets an incomplete one. */
const streamedFrom = 64 * 1024;

/** `range`: the client's; passed on only for what is streamed (user-data). */
export type StreamRequest = Pick<ForwardedRequest, "method" | "path" | "range"> & {
  /**
   * Of the client's own session token; sent in the answer in place of the service's value for the proxy's
   * token.
   */
  readonly tokenSecondsLeft?: number | undefined;
  /** The container's id. */
  readonly container: string;
};

/**
 * Requests a path for one client; the request is aborted if that client closes. Resolves with the answer, or
 * with "sent" if it was long and was written to the client as it arrived. Does not wait for a slow client:
 * the connection to the service is free for others as soon as the service has answered.
 */
export async function stream(
  deps: {
    readonly metadata: Pick<MetadataClient, "forward">;
    readonly meter: Meter;
    readonly unread: Unread;
    readonly timeoutMs: number;
  },
  request: StreamRequest,
  response: ServerResponse,
): Promise<Answer | "sent"> {
  const { method, path, container } = request;
  const closed = new AbortController();
  const abort = () => closed.abort(new Error("the client closed the connection"));
  response.once("close", abort);
  try {
    const range = safeRange(request.range);
    const upstream = await deps.metadata.forward({
      method,
      path,
      range,
      signal: closed.signal,
      timeoutMs: deps.timeoutMs,
      meter: deps.meter,
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
      return whole(upstream, await readBody(upstream, longestBody, deps.timeoutMs));
    const bytes = method === "HEAD" ? 0 : length;
    if (!deps.unread.hold(container, bytes, response)) {
      upstream.destroy();
      throw new UpstreamBusy(`forwarding ${path}: the container has too many unread answers`);
    }
    const headers = passed(upstream, Number.isNaN(length) ? undefined : length);
    if (request.tokenSecondsLeft !== undefined) headers.push(ttlHeader, String(request.tokenSecondsLeft));
    response.writeHead(status, headers);
    await handOver(upstream, response, closed.signal, deps.timeoutMs);
    return "sent";
  } finally {
    response.off("close", abort);
  }
}

/** Without back pressure: `Unread` limits the bytes that may wait. */
function handOver(
  upstream: IncomingMessage,
  response: ServerResponse,
  closed: AbortSignal,
  timeoutMs: number,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (why: string) => {
      clearTimeout(deadline);
      upstream.destroy();
      reject(new UpstreamError(502, `forwarding the metadata service's answer: ${why}`));
    };
    const deadline = setTimeout(() => fail(`not complete after ${timeoutMs} ms`), timeoutMs);
    closed.addEventListener("abort", () => fail("the client closed the connection"), { once: true });
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

/**
 * Waits until the client has read the response. Rejects with UpstreamError if it does not in time, or closes.
 */
export function taken(response: ServerResponse, path: string, timeoutMs: number): Promise<void> {
  if (response.writableFinished) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const settle = (why?: string) => {
      clearTimeout(deadline);
      response.off("close", closed);
      if (why === undefined) resolve();
      else reject(new UpstreamError(502, `forwarding ${path}: ${why}`));
    };
    const closed = () => settle(response.writableFinished ? undefined : "the client closed the connection");
    const deadline = setTimeout(
      () => settle(`the client has not read the answer after ${timeoutMs} ms`),
      timeoutMs,
    );
    response.once("close", closed);
    if (response.destroyed) closed();
  });
}

function safeRange(range: string | undefined): string | undefined {
  return range !== undefined && /^bytes=[\d, -]{1,64}$/.test(range) ? range : undefined;
}
