import type { IncomingMessage } from "node:http";

/**
 * What follows a request's headers. A metadata request has no body. A client may say so in two ways, and libcurl uses the second one for a token:
 * `Content-Length: 0`, or chunks of which the first is the last (s3fs-fuse/s3fs-fuse#1765, with `Expect: 100-continue`).
 */
export type Framing = "none" | "empty chunks to come" | "body";

/** Both headers at once, or a length that is no number, Node's parser has refused already. */
export function framingOf({ method, headers }: Pick<IncomingMessage, "method" | "headers">): Framing {
  const coding = headers["transfer-encoding"];
  if (coding !== undefined)
    return method === "PUT" && coding.toLowerCase() === "chunked" ? "empty chunks to come" : "body";
  const length = headers["content-length"];
  return length === undefined || /^0+$/.test(length) ? "none" : "body";
}

/**
 * Whether chunks that were announced turn out to be none: false at the first byte of a body, or trailer, or when the end has not come in time.
 * Settles once; never rejects.
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
