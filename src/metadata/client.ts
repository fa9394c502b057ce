import {
  Agent as HttpAgent,
  type IncomingMessage,
  type RequestOptions,
  request as requestHttp,
} from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import { addAbortSignal } from "node:stream";
import { drain, readBody } from "./body.ts";
import { MetadataError } from "./error.ts";
import { type MetadataState, Reachability } from "./reachability.ts";
import { MetadataSessionToken, type RequestToken } from "./session-token.ts";

/**
 * Counts the requests that are sent in addition to the caller's own, and notes a service that is overloaded.
 */
export type Meter = {
  /** One more request: a token, a retry. */
  charge(): void;
  /** The service answered 429 or 503, or did not answer in time. */
  throttled(): void;
};

export type ForwardedRequest = {
  readonly method: "GET" | "HEAD";
  /** Sent as it is: it must come from imds/paths `classify`. */
  readonly path: string;
  readonly range?: string | undefined;
  /** Ends the request; its `reason` becomes the cause of the rejection. */
  readonly signal?: AbortSignal | undefined;
  /** From the request to the answer's headers; also the longest wait for a session token. */
  readonly timeoutMs: number;
  readonly meter: Meter;
};

/** A whole answer of the service. */
export type MetadataAnswer = {
  readonly status: number;
  readonly body: string;
  /** The answer's `Date`, milliseconds since the epoch; undefined without one. */
  readonly at: number | undefined;
};

/**
 * Connections for requests on behalf of containers. imds' queue does not use `reserved` of them: they are for
 * answers whose bodies are still being discarded.
 */
export const pool = { connections: 40, reserved: 8 } as const;

const tokenPath = "/latest/api/token";
/** For the whole exchange. Every caller waits for it together, so it must end before they give up. */
const tokenTimeoutMs = 2_000;
const maxTokenBytes = 4_096;
const maxOwnAnswerBytes = 65_536;

/** Where and how a request is sent. */
type Route = { readonly agent: HttpAgent; readonly timeoutMs: number; readonly meter: Meter };

const unmetered: Meter = { charge: () => undefined, throttled: () => undefined };

/**
 * The one client of the real instance metadata service (IMDS). It serves two purposes with one session token:
 *
 * - `read`: for this host itself, mainly its own credentials. IMDSv2 only.
 * - `forward`: pass-through for containers. Kept connections, streaming, charged to the rate limit.
 *
 * Each `read` and each token request has a connection of its own (there are a few in hours), so that neither
 * the containers' requests nor a kept connection that has died can delay it.
 *
 * It sends GET and HEAD for given paths and PUT for the token. Of a client's headers it sends only `Range`.
 * It follows no redirect. Its agents are its own, so they ignore HTTP_PROXY.
 *
 * The AWS SDK's metadata client is not suitable. Its endpoint comes from AWS_EC2_METADATA_SERVICE_ENDPOINT
 * only, which on this host may be the address of this proxy. It can also fall back to IMDSv1, and use an HTTP
 * proxy.
 */
export class MetadataClient {
  /** Origin only, e.g. `http://169.254.169.254`. */
  readonly endpoint: string;
  readonly #host: string;
  readonly #origin: Pick<RequestOptions, "hostname" | "port">;
  readonly #request: typeof requestHttp;
  readonly #ownAgent: HttpAgent;
  readonly #poolAgent: HttpAgent;
  readonly #token: MetadataSessionToken;
  readonly #reachability: Reachability;

  /** `now`: milliseconds, monotonic. */
  constructor(options: { readonly endpoint: string; readonly now: () => number }) {
    const url = new URL(options.endpoint);
    const secure = url.protocol === "https:";
    const Agent = secure ? HttpsAgent : HttpAgent;
    this.endpoint = options.endpoint;
    this.#host = url.host;
    this.#origin = {
      // URL keeps the brackets of an IPv6 address, which sockets do not accept.
      hostname: url.hostname.replace(/^\[|\]$/g, ""),
      port: url.port === "" ? (secure ? 443 : 80) : Number(url.port),
    };
    this.#request = secure ? requestHttps : requestHttp;
    this.#ownAgent = new Agent({ keepAlive: false });
    // All of them may stay open when idle: a connection that we close stays in TIME_WAIT for a minute.
    const { connections } = pool;
    this.#poolAgent = new Agent({ keepAlive: true, maxSockets: connections, maxFreeSockets: connections });
    this.#token = new MetadataSessionToken(options.now);
    this.#reachability = new Reachability(options.now);
  }

  /**
   * Reads a path that begins with `/latest/`, for this host itself. A service that issues no session tokens
   * gets no such request. A status other than 200 is an answer; rejects with a MetadataError if there is
   * none.
   * @param timeoutMs for each request, from the connection to the answer's last byte: a body that trickles
   *   must not take longer than an answer that never begins
   */
  async read(path: string, timeoutMs: number): Promise<MetadataAnswer> {
    const route = { agent: this.#ownAgent, timeoutMs, meter: unmetered };
    const token = await this.#requiredToken(route);
    const answer = await this.#readWhole(route, path, token);
    if (answer.status !== 401) return answer;
    // The token has expired early: the instance was stopped and started.
    this.#token.rejected(token);
    return this.#readWhole(route, path, await this.#requiredToken(route));
  }

  /**
   * Sends a request on behalf of a container. Resolves when the answer's headers have arrived; the caller
   * reads or destroys its body. After a 401 it retries once with a new token. Rejects with a MetadataError.
   */
  async forward(request: ForwardedRequest): Promise<IncomingMessage> {
    const { timeoutMs, meter } = request;
    const route = { agent: this.#poolAgent, timeoutMs, meter };
    const token = await this.#currentToken(route);
    const answer = await this.#get(route, request, token);
    if (answer.statusCode !== 401) return noteThrottling(answer, meter);
    drain(answer);
    this.#token.rejected(token);
    const another = await this.#currentToken(route);
    meter.charge();
    return noteThrottling(await this.#get(route, request, another), meter);
  }

  state(): MetadataState {
    return this.#reachability.state();
  }

  close(): void {
    this.#ownAgent.destroy();
    this.#poolAgent.destroy();
  }

  /** Empty if the service issues none. */
  async #currentToken(route: Route): Promise<string> {
    const request = this.#tokenRequest(route);
    return this.#token.valid(request) ?? (await this.#waitForToken(this.#token.renew(request), route));
  }

  async #requiredToken(route: Route): Promise<string> {
    const request = this.#tokenRequest(route);
    // An empty token counts as none: the service is asked again.
    const token = this.#token.valid(request) || (await this.#waitForToken(this.#token.renew(request), route));
    if (token !== "") return token;
    throw new MetadataError(
      "no-answer",
      `the metadata service at ${this.#host} issues no session tokens, and without one (IMDSv1) the host's own credentials are not read`,
      { status: 404 },
    );
  }

  /** The token request may have been sent by the other user of this client, with a longer timeout. */
  async #waitForToken(renewal: Promise<string>, { timeoutMs, meter }: Route): Promise<string> {
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      meter.throttled();
      late.reject(this.#late(tokenPath, timeoutMs));
    }, timeoutMs);
    try {
      return await Promise.race([renewal, late.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  #tokenRequest({ meter }: Route): RequestToken {
    const route = { agent: this.#ownAgent, meter, timeoutMs: tokenTimeoutMs };
    return async (ttlSeconds) => {
      meter.charge();
      const headers = ["X-aws-ec2-metadata-token-ttl-seconds", String(ttlSeconds), "Content-Length", "0"];
      const { answer, body } = await this.#whole(route, tokenPath, maxTokenBytes, (signal) =>
        this.#send(route, "PUT", tokenPath, headers, signal),
      );
      const ttl = answer.headers["x-aws-ec2-metadata-token-ttl-seconds"];
      return {
        status: answer.statusCode ?? 0,
        body: body.toString("latin1"),
        ttlHeader: typeof ttl === "string" ? ttl : "",
      };
    };
  }

  async #readWhole(route: Route, path: string, token: string): Promise<MetadataAnswer> {
    const { answer, body } = await this.#whole(route, path, maxOwnAnswerBytes, (signal) =>
      this.#get(route, { method: "GET", path, signal }, token),
    );
    const at = Date.parse(answer.headers.date ?? "");
    return {
      status: answer.statusCode ?? 0,
      body: body.toString("utf8"),
      at: Number.isNaN(at) ? undefined : at,
    };
  }

  /** An answer with its body. Both must arrive within the route's `timeoutMs`. */
  async #whole(
    { timeoutMs, meter }: Route,
    path: string,
    maxBytes: number,
    send: (signal: AbortSignal) => Promise<IncomingMessage>,
  ): Promise<{ readonly answer: IncomingMessage; readonly body: Buffer }> {
    const late = AbortSignal.timeout(timeoutMs);
    try {
      const answer = await send(late);
      return { answer, body: await readBody(addAbortSignal(late, answer), maxBytes, timeoutMs) };
    } catch (error) {
      if (!late.aborted) throw error;
      meter.throttled();
      const failure = this.#late(path, timeoutMs);
      this.#reachability.failed(failure);
      throw failure;
    }
  }

  #get(
    route: Route,
    request: Pick<ForwardedRequest, "method" | "path" | "range" | "signal">,
    token: string,
  ): Promise<IncomingMessage> {
    const headers = ["Accept", "*/*"];
    if (token !== "") headers.push("X-aws-ec2-metadata-token", token);
    if (request.range !== undefined) headers.push("Range", request.range);
    return this.#send(route, request.method, request.path, headers, request.signal);
  }

  /** One exchange. It is repeated once if the service had closed the kept connection that it went out on. */
  #send(
    route: Route,
    method: string,
    path: string,
    headers: readonly string[],
    signal?: AbortSignal,
    isRetry = false,
  ): Promise<IncomingMessage> {
    const { meter, timeoutMs } = route;
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(this.#error(path, signal.reason));
        return;
      }
      // The retry has a connection of its own: the others in the pool may be closed too.
      const agent = isRetry ? false : route.agent;
      const all = ["Host", this.#host, ...headers];
      const request = this.#request({ ...this.#origin, agent, method, path, headers: all });
      let answered = false;
      const abandon = () => request.destroy(signal?.reason);
      let isLate = false;
      const deadline = setTimeout(() => {
        meter.throttled();
        isLate = true;
        request.destroy(new Error(`no answer after ${timeoutMs} ms`));
      }, timeoutMs);
      signal?.addEventListener("abort", abandon, { once: true });
      const settle = () => {
        clearTimeout(deadline);
        signal?.removeEventListener("abort", abandon);
      };
      request.once("response", (answer) => {
        answered = true;
        settle();
        const { statusCode = 0 } = answer;
        this.#reachability.answered(path, statusCode, route.agent === this.#ownAgent);
        resolve(answer);
      });
      request.on("error", (error: NodeJS.ErrnoException) => {
        settle();
        if (answered) return; // whoever reads the body gets the answer's own `error` event
        const stale = request.reusedSocket && (error.code === "ECONNRESET" || error.code === "EPIPE");
        if (stale && !isRetry && !signal?.aborted) {
          meter.charge();
          resolve(this.#send(route, method, path, headers, signal, true));
        } else {
          const failure = this.#error(path, error, isLate);
          // A client that has gone says nothing about the service.
          if (!signal?.aborted) this.#reachability.failed(failure);
          reject(failure);
        }
      });
      request.end();
    });
  }

  #error(path: string, cause: unknown, isLate = false): MetadataError {
    return new MetadataError("no-answer", `asking the metadata service at ${this.#host} for ${path}`, {
      cause,
      isLate,
    });
  }

  #late(path: string, timeoutMs: number): MetadataError {
    const message = `asking the metadata service at ${this.#host} for ${path}: no whole answer in ${timeoutMs} ms`;
    return new MetadataError("no-answer", message, { isLate: true });
  }
}

function noteThrottling(answer: IncomingMessage, meter: Meter): IncomingMessage {
  if (answer.statusCode === 429 || answer.statusCode === 503) meter.throttled();
  return answer;
}
