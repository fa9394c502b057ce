import type { IncomingMessage } from "node:http";
import { drain } from "../metadata/body.ts";
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
