import type { IncomingMessage } from "node:http";

/**
 * What follows a request's headers. A metadata request has no body. A client may say so in two ways, and
 * libcurl uses the second for a token (s3fs-fuse/s3fs-fuse#1765, with `Expect: 100-continue`):
 * `Content-Length: 0`, or chunks of which the first is the last.
 */
export type Framing = "none" | "empty chunks to come" | "body";

/** Node's parser has already refused requests with both headers, or with a length that is not a number. */
export function framingOf({ method, headers }: Pick<IncomingMessage, "method" | "headers">): Framing {
  const coding = headers["transfer-encoding"];
  if (coding !== undefined)
    return method === "PUT" && coding.toLowerCase() === "chunked" ? "empty chunks to come" : "body";
  const length = headers["content-length"];
  return length === undefined || /^0+$/.test(length) ? "none" : "body";
}

/**
 * Whether an announced chunked body turns out to be empty: false at the first byte of a body or a trailer, or
 * if its end does not arrive in time. Settles once; never rejects.
 */
export function endsEmpty(request: IncomingMessage, withinMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const settle = (isEmpty: boolean) => {
      clearTimeout(deadline);
      resolve(isEmpty);
    };
    const deadline = setTimeout(() => settle(false), withinMs);
    request.once("data", () => settle(false));
    request.once("end", () => settle(request.rawTrailers.length === 0));
    request.once("close", () => settle(false));
    request.once("error", () => settle(false));
  });
}
