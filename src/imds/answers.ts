import type { ServerResponse } from "node:http";

/** A response that is ready to be sent. */
export type Answer = {
  readonly status: number;
  /** Name, value, name, value …, as writeHead takes them. No `Date` and no `Connection`: node adds those. */
  readonly headers: readonly string[];
  /**
   * Latin-1: one character per byte. Not a Buffer, because node sends a string together with the headers, but
   * a Buffer after them.
   */
  readonly body: string;
};

export type ErrorStatus = 400 | 401 | 403 | 404 | 405 | 429 | 500 | 502 | 503 | 504;

/** `Retry-After` of 503 and 429, unless set otherwise. SDKs that retry wait about as long by themselves. */
export const retryAfterSeconds = 1;

export const ttlHeader = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds";

/** Old Terraform takes a service for IMDS only if this contains `EC2`. */
const server = ["Server", "EC2ws"] as const;

/**
 * The service's error page, byte for byte as in captures of its 404 (339 bytes; aws-config's test data
 * `imds_no_iam_role`). No capture of other statuses is known; clients do not read the body.
 */
function page(status: number, reason: string): Answer {
  const title = `${status} - ${reason}`;
  const body = `<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
\t\t "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title>${title}</title>
 </head>
 <body>
  <h1>${title}</h1>
 </body>
</html>
`;
  return answer(status, "text/html", body);
}

function answer(status: number, contentType: string, body: string, more: readonly string[] = []): Answer {
  return {
    status,
    headers: ["Content-Type", contentType, "Content-Length", String(body.length), ...server, ...more],
    body,
  };
}

export const errorAnswers: Readonly<Record<ErrorStatus, Answer>> = {
  400: page(400, "Bad Request"),
  401: page(401, "Unauthorized"),
  403: page(403, "Forbidden"),
  404: page(404, "Not Found"),
  405: answer(405, "text/plain", "", ["Allow", "GET, HEAD"]),
  429: page(429, "Too Many Requests"),
  500: page(500, "Internal Server Error"),
  502: page(502, "Bad Gateway"),
  503: page(503, "Service Unavailable"),
  504: page(504, "Gateway Timeout"),
};

/** The token path's answer to every method but PUT, from a capture of 2020. */
export const tokenMethodAnswer: Answer = answer(405, "text/plain", "", ["Allow", "OPTIONS, PUT"]);

/**
 * A 200 with the headers that captures of the service have. `body` is the proxy's own: a role name, JSON, a
 * listing.
 */
export function answer200(contentType: string, body: string, more: readonly string[] = []): Answer {
  const bytes = Buffer.from(body, "utf8").toString("latin1");
  return answer(200, contentType, bytes, ["Accept-Ranges", "none", ...more]);
}

/**
 * Sends an answer; node omits the body for HEAD.
 * @param tokenSecondsLeft of the session token that the client sent; the service repeats it in each answer to
 *   a request with a token
 */
export function sendAnswer(response: ServerResponse, ready: Answer, tokenSecondsLeft?: number): void {
  if ((ready.status === 503 || ready.status === 429) && !response.hasHeader("Retry-After"))
    response.setHeader("Retry-After", retryAfterSeconds);
  const headers =
    tokenSecondsLeft === undefined
      ? (ready.headers as string[]) // writeHead's type requires a mutable array, but it only reads it
      : [...ready.headers, ttlHeader, String(tokenSecondsLeft)];
  response.writeHead(ready.status, headers);
  response.end(ready.body, "latin1");
}
