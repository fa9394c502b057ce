import { failureDocuments } from "../credentials/document.ts";
import type { Answer } from "./answers.ts";
import { withinRateLimit } from "./callers.ts";
import { Connections } from "./connection.ts";
import { Exchange } from "./exchange.ts";
import { type Handler, type ImdsDependencies, proofAsked } from "./handler.ts";
import { isMetadataHost } from "./host.ts";
import { identify } from "./identity.ts";
import { type Refusal, refusals } from "./refusals.ts";
import { type CredentialFormat, sendCredentials } from "./role-credentials.ts";

/** Headers that HTTP proxies add. */
const proxyHeaders = ["x-forwarded-for", "via", "forwarded"] as const;

/** Hosts at which ECS and EKS serve credentials; the address that the request was sent to is accepted too. */
const agentHosts = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]", "localhost"];

const format: CredentialFormat = {
  granted: ({ container }) => json(200, container),
  isGrant: true,
  refused: ({ container }) => json(403, container),
  unavailable: ({ container }) => json(503, container),
};

/**
 * `GET /v1/credentials` as the agents of ECS and EKS answer it, for SDKs whose
 * AWS_CONTAINER_CREDENTIALS_FULL_URI points here. Callers, proof and grants are those of the metadata
 * service. This protocol has no session token, so the proof is always required.
 */
export function containerCredentialsHandler(deps: Omit<ImdsDependencies, "tokens" | "upstream">): Handler {
  const connections = new Connections(deps.now);
  return async function handle(request, response) {
    const { method, headers } = request;
    const settings = deps.settings();
    const connection = connections.of(request.socket);
    const exchange = new Exchange(deps, connection, request, response, (refusal) =>
      containerRefusalAnswer(refusal, deps.now()),
    );

    exchange.isImds = false;
    if (exchange.target.split("?", 1)[0] === "/v1/credentials") exchange.path = "/v1/credentials";
    else return exchange.refuse("path", "only /v1/credentials is served here");
    if (method !== "GET") return exchange.refuse("method", "only GET is served here");
    const host = headers.host?.replace(/:\d{1,5}$/, "");
    if (!(host !== undefined && agentHosts.includes(host)) && !isMetadataHost(headers.host, connection))
      return exchange.refuse("host", "the Host header names something other than this service");
    // Without a session token, this check alone keeps others from requesting credentials through a proxy in
    // the container.
    if (proxyHeaders.some((name) => headers[name] !== undefined))
      return exchange.refuse(
        "forwarded",
        "credentials were requested through a proxy (X-Forwarded-For, Via or Forwarded)",
      );

    const identity = await identify(deps, connection, {
      started: true,
      proof: proofAsked(settings.identityProof),
      via: "direct",
    });
    if (!identity.ok) return exchange.refuseUnidentified(identity);
    const { caller } = identity;
    exchange.caller = caller;
    caller.activity.requests += 1;
    if (!withinRateLimit(caller, settings.requestsPerSecond, deps.now()))
      return exchange.refuse(
        "too-many-requests",
        `more than ${settings.requestsPerSecond} requests a second`,
      );

    const { decision } = caller;
    if (decision.kind === "denial") return exchange.refuse(decision.code, decision.reason);
    return sendCredentials(deps, exchange, identity, decision.request, format);
  };
}

/** This listener's answer to a refused request, or connection. */
export function containerRefusalAnswer({ code, reason }: Refusal, now: number): Answer {
  const { status } = refusals[code];
  return json(status, failureDocuments({ code, message: reason }, now, status).container);
}

function json(status: number, document: Buffer): Answer {
  const headers = ["Content-Type", "application/json", "Content-Length", String(document.length)];
  return { status, headers, body: document.toString("latin1") };
}
