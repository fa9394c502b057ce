import type { IncomingMessage, ServerResponse } from "node:http";
import type { Lookup } from "../containers/directory.ts";
import type { CacheAnswer, CredentialCache } from "../credentials/cache.ts";
import { explain } from "../errors.ts";
import { answer200, errorAnswers, sendAnswer, tokenMethodAnswer, ttlHeader } from "./answers.ts";
import { admitted, type Caller, noteGrant } from "./callers.ts";
import { type Connection, Connections } from "./connection.ts";
import { hostIsOurs } from "./host.ts";
import { askerOf, type IdentityDependencies, isStale } from "./identity.ts";
import { type Classified, classify } from "./paths.ts";
import { editListing, editVersionRoot, type PassthroughPolicy } from "./policy.ts";
import type { SessionTokens } from "./session-token.ts";
import { type Upstream, upstreamCode } from "./upstream.ts";

/** What can change while we run, by a reload; read anew for each request. */
export type ImdsSettings = {
  readonly identityProof: "socket" | "token" | "off";
  readonly passthrough: PassthroughPolicy;
  /** Requests a second of one container. */
  readonly requestsPerSecond: number;
};

export type ImdsDependencies = IdentityDependencies & {
  readonly settings: () => ImdsSettings;
  readonly credentials: Pick<CredentialCache, "get">;
  readonly tokens: SessionTokens;
  readonly upstream: Pick<Upstream, "forward" | "text">;
  /** Told of each set of credentials that a container is given for the first time. */
  readonly granted: (caller: Caller, accessKeyId: string, expiresAt: number) => void;
  readonly refused: (refusal: Refusal) => void;
  readonly now: () => number;
};

/** A request that was not answered as it was asked; `code` is one of those in docs/refusals.md. */
export type Refusal = {
  readonly status: number;
  readonly code: string;
  readonly reason: string;
  readonly address: string;
  readonly caller: Caller | undefined;
  readonly path: string;
};

/** What is a container's own: the token for the rest, and all that names its role. */
const ofTheRole: ReadonlySet<Classified["kind"]> = new Set([
  "token",
  "iam-listing",
  "iam-info",
  "role-list",
  "role-credentials",
]);

/** Paths asked again and again need not be taken apart again; a few hundred exist. */
const maxClassified = 1_024;
/** Longer paths are nobody's habit, and would fill memory. */
const maxRemembered = 256;

/** Answers to IMDS requests. The one function below is the whole request, from the caller's address to the last byte. */
export function imdsHandler(
  the: ImdsDependencies,
): (request: IncomingMessage, response: ServerResponse) => Promise<void> {
  const connections = new Connections();
  const classified = new Map<string, Classified>();
  // Responses by answer: an answer keeps its identity until its credentials are renewed, so its bytes are made once.
  const responses = new WeakMap<object, ReturnType<typeof answer200>>();

  return async function handle(request, response) {
    const method = request.method ?? "";
    const rawPath = request.url ?? "";
    const connection = connections.of(request.socket);
    const address = connection.address ?? "";
    const settings = the.settings();
    const refuse = (
      status: 400 | 401 | 403 | 404 | 405 | 429 | 503,
      code: string,
      reason: string,
      caller?: Caller,
    ) => {
      the.refused({ status, code, reason, address, caller: caller ?? callerAt(address), path: rawPath });
      sendAnswer(response, code === "token-method" ? tokenMethodAnswer : errorAnswers[status]);
    };

    // What is asked. Judged by the path alone, before anybody is believed to be somebody.
    const asked =
      method === "GET" && rawPath.length <= maxRemembered
        ? memo(classified, rawPath, () => classify(method, rawPath))
        : classify(method, rawPath);
    if (asked.kind === "refused") return refuse(asked.status, asked.code, asked.reason);
    if (!hostIsOurs(request.headers.host, connection)) {
      return refuse(403, "host", "the Host header names another host than the metadata service");
    }

    // Who asks. Really? A token, credentials and the role's name go only to a connection that was proven to be the container's. A token alone
    // could have been stolen by a neighbour that took the address, so the rest needs the proof too, unless the operator said otherwise.
    const wantsSecret = ofTheRole.has(asked.kind);
    const token = request.headers["x-aws-ec2-metadata-token"];
    const tokenWillDo = settings.identityProof === "token" && asked.kind !== "token" && token !== undefined;
    const prove = wantsSecret && settings.identityProof !== "off" && !tokenWillDo;
    const identified = askerOf(the, connection, { starting: wantsSecret, prove, via: "redirect" });
    const asker = identified instanceof Promise ? await identified : identified;
    if (!asker.known) {
      // Nobody's connection is not kept for a second try.
      response.shouldKeepAlive = asker.caller !== undefined;
      return refuse(asker.status, asker.code, asker.reason, asker.caller);
    }
    const { lookup, caller } = asker;
    if (!admitted(caller, settings.requestsPerSecond, the.now())) {
      return refuse(
        429,
        "too-many-requests",
        `more than ${settings.requestsPerSecond} requests a second`,
        caller,
      );
    }

    // IMDSv2. A token that is present must be right, even where none is required: clients recover from 401.
    let tokenSecondsLeft: number | undefined;
    if (asked.kind !== "token") {
      tokenSecondsLeft =
        typeof token === "string" ? verify(the.tokens, token, connection, lookup, the.now()) : undefined;
      if (token !== undefined && tokenSecondsLeft === undefined) {
        return refuse(401, "token-invalid", "the session token is not this container's, or expired", caller);
      }
      const required = caller.decision.kind === "denial" || caller.decision.httpTokens === "required";
      if (token === undefined && required)
        return refuse(401, "token-missing", "no session token (IMDSv2 is required)", caller);
    }

    const { decision, container } = caller;
    /** A listing of the real service, without what is not forwarded. */
    const sendListing = async (path: string, edit: (listing: string) => string) => {
      const listing = await the.upstream
        .text(path, container.id, response)
        .catch((error: unknown) => ({ code: upstreamCode(error), reason: explain(error) }));
      if (typeof listing === "object") return refuse(503, listing.code, listing.reason, caller);
      if (listing === undefined)
        return refuse(404, "upstream-404", "the instance metadata service has no such listing", caller);
      return sendAnswer(response, answer200("text/plain", edit(listing)), tokenSecondsLeft);
    };
    switch (asked.kind) {
      case "token": {
        if (request.headers["x-forwarded-for"] !== undefined) {
          return refuse(403, "forwarded", "a token was asked for through a proxy (X-Forwarded-For)", caller);
        }
        const ttl = tokenTtl(request.headers["x-aws-ec2-metadata-token-ttl-seconds"]);
        if (ttl === undefined)
          return refuse(400, "token-ttl", `${ttlHeader} must be a whole number from 1 to 21600`, caller);
        return sendAnswer(response, answer200("text/plain", the.tokens.issue(container.id, ttl)), ttl);
      }
      case "role-list":
        if (decision.kind === "denial") return refuse(404, decision.code, decision.reason, caller);
        return sendAnswer(response, answer200("text/plain", decision.roleName), tokenSecondsLeft);
      case "iam-listing":
        if (decision.kind === "denial") return refuse(404, decision.code, decision.reason, caller);
        return sendAnswer(response, answer200("text/plain", "info\nsecurity-credentials/"), tokenSecondsLeft);
      case "iam-info":
      case "role-credentials": {
        if (decision.kind === "denial") return refuse(404, decision.code, decision.reason, caller);
        if (asked.kind === "role-credentials" && asked.role !== decision.roleName) {
          return refuse(
            404,
            "other-role",
            `asked for the role ${asked.role}, has ${decision.roleName}`,
            caller,
          );
        }
        const pending = the.credentials.get(container.id, caller.key, decision.request);
        const answer = pending instanceof Promise ? await pending : pending;
        // STS took a while: whose address is it now, and may they still have the role? Nobody gets what was fetched for the one before.
        if (pending instanceof Promise && isStale(the, address, lookup, caller)) {
          return refuse(
            503,
            "caller-changed",
            "the address changed hands while the role was being assumed",
            caller,
          );
        }
        switch (answer.kind) {
          case "credentials": {
            if (asked.kind === "role-credentials") noteGrant(the.granted, caller, answer.credentials);
            return sendAnswer(response, documentAnswer(asked, answer), tokenSecondsLeft);
          }
          case "refused":
            // As EC2 itself: 200 with a Code that is not Success (PROTOCOL: "Failure of role assumption"). iam/info then has no profile to show.
            if (asked.kind === "iam-info") return refuse(404, answer.code, answer.message, caller);
            the.refused({
              status: 200,
              code: answer.code,
              reason: answer.message,
              address,
              caller,
              path: rawPath,
            });
            return sendAnswer(
              response,
              answer200("text/plain", answer.documents.imds.toString("utf8")),
              tokenSecondsLeft,
            );
          case "unavailable": {
            the.refused({
              status: 503,
              code: answer.code,
              reason: answer.message,
              address,
              caller,
              path: rawPath,
            });
            response.setHeader("Retry-After", Math.max(1, Math.ceil(answer.retryAfterMs / 1000)));
            const body = answer.documents.imds.toString("utf8");
            return sendAnswer(response, { ...answer200("text/plain", body), status: 503 }, tokenSecondsLeft);
          }
        }
        return;
      }
      case "metadata-root":
        return sendListing(asked.path, (all) =>
          editListing(all, settings.passthrough, { hasRole: decision.kind === "grant" }),
        );
      case "version-root":
        return sendListing(asked.path, (all) => editVersionRoot(all, settings.passthrough));
      case "version-list":
        return sendListing(asked.path, (all) => all);
      case "metadata": {
        const verdict = settings.passthrough.permits(asked.category);
        if (!verdict.allowed) return refuse(404, verdict.code, verdict.reason, caller);
        if (verdict.partly) {
          const about = { hasRole: false, below: asked.category };
          return sendListing(asked.path, (all) => editListing(all, settings.passthrough, about));
        }
        const forwarding = the.upstream.forward(
          {
            method: method === "HEAD" ? "HEAD" : "GET",
            path: asked.path,
            range: request.headers.range,
            tokenSecondsLeft,
            container: container.id,
          },
          response,
        );
        const result = forwarding instanceof Promise ? await forwarding : forwarding;
        if (result.problem !== undefined) {
          the.refused({
            status: result.status,
            code: result.code ?? "upstream",
            reason: result.problem,
            address,
            caller,
            path: rawPath,
          });
        }
        return;
      }
    }
  };

  /** Whose address it is, for the log: what is refused by its path alone is refused before anybody was identified. */
  function callerAt(address: string): Caller | undefined {
    const lookup = the.directory.at(address);
    return lookup.kind === "container" ? the.callers.of(lookup.container) : undefined;
  }

  function documentAnswer(
    asked: Classified,
    answer: CacheAnswer & { kind: "credentials" },
  ): ReturnType<typeof answer200> {
    const documents = answer.documents;
    const bytes =
      asked.kind === "iam-info"
        ? documents.info
        : asked.kind === "role-credentials" && asked.extended
          ? documents.extended
          : documents.imds;
    return weakMemo(responses, bytes, () => answer200("text/plain", bytes.toString("utf8")));
  }

  function memo<V>(map: Map<string, V>, key: string, make: () => V): V {
    const known = map.get(key);
    if (known !== undefined) return known;
    if (map.size >= maxClassified) map.clear();
    const value = make();
    map.set(key, value);
    return value;
  }
}

function weakMemo<K extends object, V>(map: WeakMap<K, V>, key: K, make: () => V): V {
  const known = map.get(key);
  if (known !== undefined) return known;
  const value = make();
  map.set(key, value);
  return value;
}

/** Seconds that a token has left for this caller, remembered on the connection: the HMAC is computed once. */
function verify(
  tokens: SessionTokens,
  text: string,
  connection: Connection,
  lookup: Lookup,
  now: number,
): number | undefined {
  if (lookup.kind !== "container") return undefined;
  const known = connection.token;
  if (known !== undefined && known.text === text && known.lookup === lookup) {
    const left = known.expiresAt - Math.floor(now / 1000);
    return left > 0 ? left : undefined;
  }
  const left = tokens.secondsLeft(text, lookup.container.id);
  if (left !== undefined) connection.token = { text, lookup, expiresAt: Math.floor(now / 1000) + left };
  return left;
}

/** 1 to 21600 as EC2 takes it; undefined for anything else. */
function tokenTtl(header: string | string[] | undefined): number | undefined {
  if (typeof header !== "string" || !/^\d{1,5}$/.test(header.trim())) return undefined;
  const seconds = Number(header);
  return seconds >= 1 && seconds <= 21_600 ? seconds : undefined;
}
