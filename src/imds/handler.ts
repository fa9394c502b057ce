import type { IncomingMessage, ServerResponse } from "node:http";
import { LRUCache } from "lru-cache";
import type { Lookup } from "../containers/directory.ts";
import { explain } from "../errors.ts";
import { type Answer, answer200, errorAnswers, ttlHeader } from "./answers.ts";
import { type ProofKind, withinRateLimit } from "./callers.ts";
import { type Connection, Connections } from "./connection.ts";
import { Exchange, type ExchangeDependencies } from "./exchange.ts";
import { isMetadataHost } from "./host.ts";
import { type IdentityDependencies, identify } from "./identity.ts";
import { type Classified, canonicalOf, classify } from "./paths.ts";
import { editListing, editVersionRoot, type PassthroughPolicy } from "./policy.ts";
import { type Refusal, refusalAnswer } from "./refusals.ts";
import { type CredentialDependencies, type CredentialFormat, sendCredentials } from "./role-credentials.ts";
import type { SessionTokens } from "./session-token.ts";
import { type Upstream, upstreamCode } from "./upstream.ts";

/** Settings that a reload can change; read for each request. */
export type ImdsSettings = {
  readonly identityProof: "socket" | "address" | "token" | "off";
  readonly passthrough: PassthroughPolicy;
  /** Of one container. */
  readonly requestsPerSecond: number;
};

export type ImdsDependencies = IdentityDependencies &
  CredentialDependencies &
  ExchangeDependencies & {
    readonly settings: () => ImdsSettings;
    readonly tokens: SessionTokens;
    readonly upstream: Pick<Upstream, "forward" | "text" | "source">;
    readonly now: () => number;
  };

export type Handler = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

/** Requests that concern the container's own role or token. */
const ownKinds: ReadonlySet<Classified["kind"]> = new Set([
  "token",
  "iam-listing",
  "iam-info",
  "role-list",
  "role-credentials",
]);

/** Classified paths that are remembered; clients use a few hundred. */
const maxClassified = 1_024;
/** Longer paths are rare and would only take memory. */
const maxRememberedPath = 256;

/** Answers IMDS requests. `handle` shows the whole request, from the caller's address to the last byte. */
export function imdsHandler(deps: ImdsDependencies): Handler {
  const connections = new Connections(deps.now);
  const classified = new LRUCache<string, Classified>({ max: maxClassified });
  const formats = credentialFormats();

  return async function handle(request, response) {
    const { method = "", url: target = "", headers } = request;
    const settings = deps.settings();
    const connection = connections.of(request.socket);
    const exchange = new Exchange(deps, connection, request, response, answerTo);

    // What is requested. Classify by path; the caller is not identified yet.
    let asked = method === "GET" ? classified.get(target) : undefined;
    if (asked === undefined) {
      asked = classify(method, target);
      if (method === "GET" && target.length <= maxRememberedPath) classified.set(target, asked);
    }
    if (deps.access !== undefined) exchange.path = canonicalOf(asked);
    if (asked.kind === "refused") return exchange.refuse(asked.code, asked.reason);
    if (!isMetadataHost(headers.host, connection))
      return exchange.refuse("host", "the Host header names something other than the metadata service");

    // Who requests it. A token, the role's name and credentials are sent only on a connection that is proven
    // to be the container's. A neighbour that took over the address could have stolen a token, so a token
    // replaces the proof only if the operator says so.
    const isOwn = ownKinds.has(asked.kind);
    const token = headers["x-aws-ec2-metadata-token"];
    const isProvenByToken =
      settings.identityProof === "token" && asked.kind !== "token" && token !== undefined;
    const identifying = identify(deps, connection, {
      started: isOwn,
      proof: isOwn ? (isProvenByToken ? "token" : proofAsked(settings.identityProof)) : "none",
      via: "redirect",
    });
    const identity = identifying instanceof Promise ? await identifying : identifying;
    if (!identity.ok) return exchange.refuseUnidentified(identity);
    const { lookup, caller } = identity;
    const { container, decision } = caller;
    exchange.caller = caller;
    caller.activity.requests += 1;
    if (!withinRateLimit(caller, settings.requestsPerSecond, deps.now()))
      return exchange.refuse(
        "too-many-requests",
        `more than ${settings.requestsPerSecond} requests a second`,
      );

    // IMDSv2. A token that is present must be valid, even where none is required: clients recover from 401.
    if (asked.kind !== "token") {
      if (token !== undefined) {
        exchange.tokenSecondsLeft = secondsLeft(deps.tokens, token, connection, lookup, deps.now());
        if (exchange.tokenSecondsLeft === undefined)
          return exchange.refuse("token-invalid", "the session token is another container's, or has expired");
      } else if (decision.kind === "denial" || decision.httpTokens === "required") {
        return exchange.refuse("token-missing", "no session token (IMDSv2 is required)");
      }
    }

    /** Answers with a listing of the real service, without the entries that are not forwarded. */
    const sendListing = async (path: string, edit: (listing: string) => string) => {
      let listing: string | undefined;
      if (deps.access !== undefined) exchange.from = deps.upstream.source(path, container.id);
      try {
        listing = await deps.upstream.text(path, container.id, response);
      } catch (error) {
        return exchange.refuse(upstreamCode(error), explain(error));
      }
      if (listing === undefined)
        return exchange.refuse("upstream-404", "the instance metadata service has no such listing");
      return exchange.send(text(edit(listing)));
    };

    switch (asked.kind) {
      case "token": {
        if (headers["x-forwarded-for"] !== undefined)
          return exchange.refuse("forwarded", "a token was requested through a proxy (X-Forwarded-For)");
        const ttl = tokenTtl(headers["x-aws-ec2-metadata-token-ttl-seconds"]);
        if (ttl === undefined)
          return exchange.refuse("token-ttl", `${ttlHeader} must be a whole number from 1 to 21600`);
        exchange.tokenSecondsLeft = ttl;
        return exchange.send(text(deps.tokens.issue(container.id, ttl)));
      }
      case "role-list":
      case "iam-listing":
      case "iam-info":
      case "role-credentials":
        if (decision.kind === "denial") return exchange.refuse(decision.code, decision.reason);
        if (asked.kind === "role-list") return exchange.send(text(decision.roleName));
        if (asked.kind === "iam-listing") return exchange.send(text("info\nsecurity-credentials/"));
        if (asked.kind === "iam-info")
          return sendCredentials(deps, exchange, identity, decision.request, formats.info);
        if (asked.role !== decision.roleName)
          return exchange.refuse(
            "other-role",
            `requested the role ${asked.role}, but its role is ${decision.roleName}`,
          );
        return sendCredentials(
          deps,
          exchange,
          identity,
          decision.request,
          asked.extended ? formats.extended : formats.credentials,
        );
      case "metadata-root":
        return sendListing(asked.path, (listing) =>
          editListing(listing, settings.passthrough, { hasRole: decision.kind === "grant" }),
        );
      case "version-root":
        return sendListing(asked.path, (listing) => editVersionRoot(listing, settings.passthrough));
      case "version-list":
        return sendListing(asked.path, (listing) => listing);
      case "metadata": {
        const { path, category } = asked;
        const verdict = settings.passthrough.permits(category);
        if (!verdict.allowed) return exchange.refuse(verdict.code, verdict.reason);
        if (verdict.partly)
          return sendListing(path, (listing) =>
            editListing(listing, settings.passthrough, { hasRole: false, below: category }),
          );
        if (deps.access !== undefined) exchange.from = deps.upstream.source(path, container.id);
        const forwarding = deps.upstream.forward(
          {
            method: method === "HEAD" ? "HEAD" : "GET",
            path,
            range: headers.range,
            tokenSecondsLeft: exchange.tokenSecondsLeft,
            container: container.id,
          },
          response,
        );
        const result = forwarding instanceof Promise ? await forwarding : forwarding;
        if (!result.ok) exchange.record(result);
        return;
      }
    }
  };
}

/** The proof that a request without a session token needs. */
export function proofAsked(identityProof: ImdsSettings["identityProof"]): ProofKind {
  switch (identityProof) {
    case "address":
      return "address";
    case "off":
      return "none";
    default:
      return "socket";
  }
}

function answerTo({ code }: Refusal): Answer {
  return refusalAnswer(code);
}

function text(body: string): Answer {
  return answer200("text/plain", body);
}

/** The documents of IMDS that come from the role's credentials. */
function credentialFormats(): Readonly<Record<"credentials" | "extended" | "info", CredentialFormat>> {
  // A document is the same Buffer until the credentials are renewed, so its answer is built once.
  const answers = new WeakMap<Buffer, Answer>();
  const answerFor = (document: Buffer): Answer => {
    const known = answers.get(document);
    if (known !== undefined) return known;
    const answer = text(document.toString("utf8"));
    answers.set(document, answer);
    return answer;
  };
  const credentials: CredentialFormat = {
    granted: ({ imds }) => answerFor(imds),
    isGrant: true,
    // As EC2 does: 200 with a `Code` other than Success (PROTOCOL, "Failure of role assumption").
    refused: ({ imds }) => answerFor(imds),
    unavailable: ({ imds }) => ({ ...answerFor(imds), status: 503 }),
  };
  return {
    credentials,
    extended: { ...credentials, granted: ({ extended }) => answerFor(extended) },
    // Without credentials there is no instance profile to show.
    info: {
      ...credentials,
      granted: ({ info }) => answerFor(info),
      isGrant: false,
      refused: () => errorAnswers[404],
    },
  };
}

/**
 * Seconds until the token expires; undefined if it is invalid. Remembered on the connection, so the HMAC is
 * computed once.
 */
function secondsLeft(
  tokens: SessionTokens,
  token: string | string[],
  connection: Connection,
  lookup: Extract<Lookup, { kind: "container" }>,
  now: number,
): number | undefined {
  if (typeof token !== "string") return undefined;
  const known = connection.token;
  const nowSeconds = Math.floor(now / 1000);
  if (known?.text === token && known.lookup === lookup) {
    const left = known.expiresAt - nowSeconds;
    return left > 0 ? left : undefined;
  }
  const left = tokens.secondsLeft(token, lookup.container.id);
  if (left !== undefined) connection.token = { text: token, lookup, expiresAt: nowSeconds + left };
  return left;
}

/** 1 to 21600, as EC2 accepts it; undefined for anything else. */
function tokenTtl(header: string | string[] | undefined): number | undefined {
  if (typeof header !== "string" || !/^\d{1,5}$/.test(header.trim())) return undefined;
  const seconds = Number(header);
  return seconds >= 1 && seconds <= 21_600 ? seconds : undefined;
}
