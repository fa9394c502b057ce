import type { IncomingMessage } from "node:http";
import { drain } from "../metadata/body.ts";
import { MetadataError } from "../metadata/error.ts";
import { type Answer, errorAnswers } from "./answers.ts";

/** The real service could not be asked, or answered what cannot be passed on. `status` is what the client is told. */
export class UpstreamError extends Error {
  readonly status: 502 | 503;

  constructor(status: 502 | 503, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "UpstreamError";
    this.status = status;
  }
}

/** The service was not asked: the container has its share under way already, or the service is slow. Coming again later helps. */
export class UpstreamBusy extends UpstreamError {
  constructor(message: string) {
    super(503, message);
    this.name = "UpstreamBusy";
  }
}

/** What the client is told of a failure; 500 for a bug of ours. */
export function statusOf(error: unknown): 500 | 502 | 503 {
  if (error instanceof UpstreamError) return error.status;
  if (error instanceof MetadataError) return error.kind === "no-answer" ? 503 : 502;
  return 500;
}

/** What of the service's headers goes on to the client: a list of those, so that nothing about our own session slips through. */
const passedHeaders = ["Accept-Ranges", "Last-Modified", "ETag", "Content-Range"] as const;

/** Whether the service's own answer goes on: 200, a part, or "no such part". */
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

/** Our answer in place of one that does not go on as it is. */
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
      // The service refused our token, a fresh one too. A client that saw 401 would throw its own away, which is good, and ask without end.
      return errorAnswers[503];
  }
  return errorAnswers[502];
}

/** Some services send a folder's client to the same path with a slash. That is passed on, for the client to ask and us to judge; no other. */
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
