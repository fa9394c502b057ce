import type { IncomingMessage } from "node:http";
import { type Answer, errorAnswers } from "./answers.ts";

/** The real service failed, or its answer cannot be passed on. `status` is what the client gets. */
export class UpstreamError extends Error {
  readonly status: 502 | 503;

  constructor(status: 502 | 503, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "UpstreamError";
    this.status = status;
  }
}

/** The service was not asked: the container has used its share, or the service is slow. A retry helps. */
export class UpstreamBusy extends UpstreamError {
  constructor(message: string) {
    super(503, message);
    this.name = "UpstreamBusy";
  }
}

/**
 * The only headers of the service that go to the client, so that nothing about the proxy's own session does.
 */
const passedHeaders = ["Accept-Ranges", "Last-Modified", "ETag", "Content-Range"] as const;

/** Whether the service's own answer goes to the client: 200, partial content, or range not satisfiable. */
export function isPassed(upstream: IncomingMessage): boolean {
  return upstream.statusCode === 200 || upstream.statusCode === 206 || upstream.statusCode === 416;
}

export function passed(upstream: IncomingMessage, length: number | undefined): string[] {
  const headers = ["Content-Type", upstream.headers["content-type"] ?? "text/plain"];
  if (length !== undefined) headers.push("Content-Length", String(length));
  for (const name of passedHeaders) {
    const value = upstream.headers[name.toLowerCase()];
    if (typeof value === "string") headers.push(name, value);
  }
  headers.push("Server", "EC2ws");
  return headers;
}

export function whole(upstream: IncomingMessage, body: Buffer): Answer {
  return {
    status: upstream.statusCode ?? 502,
    headers: passed(upstream, body.length),
    body: body.toString("latin1"),
  };
}

/** The proxy's answer in place of one that is not passed on. */
export function instead(upstream: IncomingMessage, path: string): Answer {
  drain(upstream);
  const status = upstream.statusCode ?? 502;
  switch (status) {
    case 301:
    case 302:
    case 307:
    case 308:
      return redirected(upstream, path);
    case 400:
    case 403:
    case 404:
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
      return errorAnswers[status];
    case 401:
      // The service refused the proxy's token, and a fresh one. A client that got 401 would discard its own
      // valid token and retry endlessly.
      return errorAnswers[503];
  }
  return errorAnswers[502];
}

/**
 * Some services redirect a directory to the same path with a slash. Only that redirect is passed on; the
 * client's next request is classified again.
 */
function redirected(upstream: IncomingMessage, path: string): Answer {
  const { location } = upstream.headers;
  const target = location === undefined ? null : URL.parse(location, "http://metadata.invalid");
  if (path.endsWith("/") || target === null || target.pathname !== `${path}/`) return errorAnswers[502];
  const body = "";
  const headers = [
    "Content-Type",
    "text/plain",
    "Content-Length",
    "0",
    "Location",
    `${path}/`,
    "Server",
    "EC2ws",
  ];
  return { status: 301, headers, body };
}

/** Lets a body run out that nobody wants, so that its connection can be used again; within limits. */
export function drain(answer: IncomingMessage): void {
  readBody(answer, 64 * 1024, 5000).catch(() => undefined);
}

/** A whole body. Rejects with UpstreamError, and gives the connection up, if it is longer than `limit` bytes, cut short, or not there in time. */
export function readBody(answer: IncomingMessage, limit: number, timeoutMs: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const fail = (why: string, cause?: unknown) => {
      clearTimeout(deadline);
      answer.destroy();
      reject(new UpstreamError(502, `reading the metadata service's answer: ${why}`, cause));
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
