import type { IncomingMessage, ServerResponse } from "node:http";
import { failureDocuments } from "../credentials/document.ts";
import { type Answer, sendAnswer } from "./answers.ts";
import { admitted, noteGrant } from "./callers.ts";
import { Connections } from "./connection.ts";
import type { ImdsDependencies } from "./handler.ts";
import { hostIsOurs } from "./host.ts";
import { askerOf, isStale } from "./identity.ts";
import type { TurnedAway } from "./turn-away.ts";

/** What HTTP proxies add. */
const forwardedBy = ["x-forwarded-for", "via", "forwarded"] as const;

/** Where ECS and EKS serve credentials, beside the address that we were asked at. */
const namesOfEcs = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]", "localhost"];

/**
 * `GET /v1/credentials` as the agents of ECS and EKS answer it, for SDKs that AWS_CONTAINER_CREDENTIALS_FULL_URI points here.
 * The same callers, proof and grants as on the metadata service; there is no session token in this protocol, so the proof is always made.
 */
export function containerCredentialsHandler(
  the: Pick<
    ImdsDependencies,
    | "settings"
    | "directory"
    | "refresh"
    | "listed"
    | "complete"
    | "provenance"
    | "callers"
    | "credentials"
    | "granted"
    | "refused"
    | "now"
  >,
): (request: IncomingMessage, response: ServerResponse) => Promise<void> {
  const connections = new Connections();
  return async function handle(request, response) {
    const connection = connections.of(request.socket);
    const path = request.url ?? "";
    const refuse = (
      status: 403 | 404 | 405 | 429 | 503,
      code: string,
      reason: string,
      caller?: ReturnType<typeof the.callers.of>,
    ) => {
      the.refused({ status, code, reason, address: connection.address ?? "", caller, path });
      sendAnswer(
        response,
        json(status, failureDocuments({ code, message: reason }, the.now(), status).container),
      );
    };
    if (path.split("?", 1)[0] !== "/v1/credentials")
      return refuse(404, "path", "only /v1/credentials is served here");
    if (request.method !== "GET") return refuse(405, "method", "only GET is served here");
    const host = request.headers.host;
    const bare = host?.replace(/:\d{1,5}$/, "");
    if (!(bare !== undefined && namesOfEcs.includes(bare)) && !hostIsOurs(host, connection)) {
      return refuse(403, "host", "the Host header names another host than this service");
    }
    // There is no token that a client must have asked for before, so this is all that keeps others from asking through a proxy of the container's.
    if (forwardedBy.some((name) => request.headers[name] !== undefined))
      return refuse(
        403,
        "forwarded",
        "credentials were asked for through a proxy (X-Forwarded-For, Via or Forwarded)",
      );
    const asker = await askerOf(the, connection, {
      starting: true,
      prove: the.settings().identityProof !== "off",
      via: "direct",
    });
    if (!asker.known) {
      response.shouldKeepAlive = asker.caller !== undefined;
      return refuse(asker.status, asker.code, asker.reason, asker.caller);
    }
    const { caller, lookup } = asker;
    const { requestsPerSecond } = the.settings();
    if (!admitted(caller, requestsPerSecond, the.now()))
      return refuse(429, "too-many-requests", `more than ${requestsPerSecond} requests a second`, caller);
    const { decision, container } = caller;
    if (decision.kind === "denial") return refuse(404, decision.code, decision.reason, caller);
    const answer = await the.credentials.get(container.id, caller.key, decision.request);
    if (isStale(the, connection.address ?? "", lookup, caller)) {
      return refuse(
        503,
        "caller-changed",
        "the address changed hands while the role was being assumed",
        caller,
      );
    }
    switch (answer.kind) {
      case "credentials":
        noteGrant(the.granted, caller, answer.credentials);
        return sendAnswer(response, json(200, answer.documents.container));
      case "refused":
        the.refused({
          status: 403,
          code: answer.code,
          reason: answer.message,
          address: connection.address ?? "",
          caller,
          path,
        });
        return sendAnswer(response, json(403, answer.documents.container));
      case "unavailable":
        the.refused({
          status: 503,
          code: answer.code,
          reason: answer.message,
          address: connection.address ?? "",
          caller,
          path,
        });
        response.setHeader("Retry-After", Math.max(1, Math.ceil(answer.retryAfterMs / 1000)));
        return sendAnswer(response, json(503, answer.documents.container));
    }
  };
}

/** What a client is told whose connection is closed before a request of it was read. */
export function turnedAwayDocument({ status, code, reason }: TurnedAway, now: number): Answer {
  return json(status, failureDocuments({ code, message: reason }, now, status).container);
}

function json(status: number, document: Buffer): Answer {
  const headers = ["Content-Type", "application/json", "Content-Length", String(document.length)];
  return { status, headers, body: document.toString("latin1") };
}
