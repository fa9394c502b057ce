import type { IncomingMessage, ServerResponse } from "node:http";
import type { Caller } from "./callers.ts";
import type { Connection } from "./connection.ts";

/**
 * What an answer was made from: credentials or metadata that were there already (`cache`), a request to the
 * real metadata service (`service`), a call to STS (`sts`), or nothing but the request (`proxy`).
 */
export type AnsweredFrom = "cache" | "service" | "sts" | "proxy";

/** One request with its answer. Neither a body nor a header but `User-Agent` is in it. */
export type AnsweredRequest = {
  readonly id: string;
  /** Undefined if it was not identified. */
  readonly caller: Caller | undefined;
  readonly address: string;
  readonly method: string;
  /** Canonical; undefined if the request target has no canonical form. */
  readonly path: string | undefined;
  /** IMDSv2 if the request has a session token, or asks for one; undefined on another listener. */
  readonly imds: "v1" | "v2" | undefined;
  readonly status: number;
  /** Of the whole answer, headers included, as handed to the kernel. */
  readonly bytes: number;
  readonly durationMs: number;
  /** As sent: at most what fits into a request's headers. Empty without one. */
  readonly userAgent: string;
  readonly from: AnsweredFrom;
  /** Whether the client took the whole answer. */
  readonly isComplete: boolean;
};

/** Present only where the configuration is `verbose`: otherwise a request costs nothing for it. */
export type AccessLog = {
  /** A name for one request, unique on this host. */
  nextId(): string;
  answered(request: AnsweredRequest): void;
};

/** What is known of a request only while it is handled. */
type Handled = {
  caller: Caller | undefined;
  path: string | undefined;
  from: AnsweredFrom;
  readonly isImds: boolean;
};

/** Reports the request once its answer has been sent, or its client has gone. Returns its id. */
export function reportWhenAnswered(
  { nextId, answered }: AccessLog,
  handled: Handled,
  connection: Connection,
  { request, response, now }: Observed,
): string {
  const id = nextId();
  const startedAt = now();
  const { socket, method = "", headers } = request;
  const hasToken = headers["x-aws-ec2-metadata-token"] !== undefined;
  const asksForToken = headers["x-aws-ec2-metadata-token-ttl-seconds"] !== undefined;
  response.once("close", () => {
    // Answers of one connection are sent in the order of its requests.
    const bytes = socket.bytesWritten - connection.bytesReported;
    connection.bytesReported = socket.bytesWritten;
    answered({
      id,
      caller: handled.caller,
      address: connection.address ?? "",
      method,
      path: handled.path,
      imds: handled.isImds ? (hasToken || asksForToken ? "v2" : "v1") : undefined,
      status: response.statusCode,
      bytes,
      durationMs: now() - startedAt,
      userAgent: headers["user-agent"] ?? "",
      from: handled.from,
      isComplete: response.writableFinished,
    });
  });
  return id;
}

type Observed = {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly now: () => number;
};
