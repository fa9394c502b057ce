import {
  Agent as HttpAgent,
  type IncomingMessage,
  type RequestOptions,
  request as requestHttp,
} from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import { drain, readBody, UpstreamError } from "./upstream-answer.ts";
import { queueLimits } from "./upstream-queue.ts";
import type { UpstreamRate } from "./upstream-rate.ts";
import { UpstreamToken } from "./upstream-token.ts";

export type WireOptions = {
  /** Origin only, e.g. `http://169.254.169.254`. */
  readonly endpoint: string;
  readonly now: () => number;
  /** Told of each exchange beyond the one that a request is asked for, and of a service that throttles. */
  readonly rate: Pick<UpstreamRate, "charge" | "throttled">;
  /** From the request to the answer's headers. */
  readonly timeoutMs: number;
};

export type WireRequest = {
  readonly method: "GET" | "HEAD";
  /** Goes out as it is: it must have come from classify. */
  readonly path: string;
  readonly range?: string | undefined;
  readonly signal?: AbortSignal | undefined;
};

/** The queue lets fewer of the containers' requests through; the rest is for the proxy's own, so that none waits in the pool. */
const connections = queueLimits.inFlight + 8;

/**
 * Speaks HTTP with the real service: only GET and HEAD of paths it is given and PUT for its own session token, which no container ever sees.
 * Sends no header that a client sent but `Range`. Follows no redirect and obeys no proxy variable: the agent is its own.
 */
export class UpstreamWire {
  readonly #options: WireOptions;
  readonly #agent: HttpAgent;
  readonly #request: typeof requestHttp;
  readonly #origin: Pick<RequestOptions, "hostname" | "port">;
  readonly #host: string;
  readonly #token: UpstreamToken;

  constructor(options: WireOptions) {
    const url = new URL(options.endpoint);
    const secure = url.protocol === "https:";
    this.#options = options;
    // As many idle connections as there may be at all: one closed by us would stay in TIME_WAIT for a minute.
    const pool = { keepAlive: true, maxSockets: connections, maxFreeSockets: connections };
    this.#agent = secure ? new HttpsAgent(pool) : new HttpAgent(pool);
    this.#request = secure ? requestHttps : requestHttp;
    this.#host = url.host;
    this.#token = new UpstreamToken({ now: options.now, ask: (ttlSeconds) => this.#askToken(ttlSeconds) });
    this.#origin = {
      hostname: url.hostname.replace(/^\[|\]$/g, ""),
      port: url.port === "" ? (secure ? 443 : 80) : Number(url.port),
    };
  }

  /**
   * Resolves when the answer's headers are there; its body is the caller's to read or to destroy. A 401 is answered by one new token and one more try.
   * Rejects with UpstreamError.
   */
  async ask(request: WireRequest): Promise<IncomingMessage> {
    const token = this.#token.living() ?? (await this.#token.fresh());
    const answer = await this.#get(request, token);
    if (answer.statusCode !== 401) return this.#heeded(answer);
    drain(answer);
    this.#token.refused(token);
    const another = this.#token.living() ?? (await this.#token.fresh());
    this.#options.rate.charge();
    return this.#heeded(await this.#get(request, another));
  }

  close(): void {
    this.#agent.destroy();
  }

  #heeded(answer: IncomingMessage): IncomingMessage {
    if (answer.statusCode === 429 || answer.statusCode === 503) this.#options.rate.throttled();
    return answer;
  }

  async #get(request: WireRequest, token: string): Promise<IncomingMessage> {
    const headers = ["Host", this.#host, "Accept", "*/*"];
    if (token !== "") headers.push("X-aws-ec2-metadata-token", token);
    if (request.range !== undefined) headers.push("Range", request.range);
    return await this.#send(request.method, request.path, headers, request.signal);
  }

  async #askToken(ttlSeconds: number): Promise<{ status: number; body: string; ttlHeader: string }> {
    const ttl = ["X-aws-ec2-metadata-token-ttl-seconds", String(ttlSeconds)];
    this.#options.rate.charge();
    const answer = await this.#send("PUT", "/latest/api/token", [
      "Host",
      this.#host,
      ...ttl,
      "Content-Length",
      "0",
    ]);
    const body = (await readBody(answer, 4096, this.#options.timeoutMs)).toString("latin1");
    const told = answer.headers["x-aws-ec2-metadata-token-ttl-seconds"];
    return { status: answer.statusCode ?? 0, body, ttlHeader: typeof told === "string" ? told : "" };
  }

  /** One exchange; once more if a kept connection turns out to have been closed by the service meanwhile. */
  #send(
    method: string,
    path: string,
    headers: readonly string[],
    signal?: AbortSignal,
    again = false,
  ): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const fail = (why: string, cause?: unknown) =>
        reject(
          new UpstreamError(503, `asking the metadata service at ${this.#host} for ${path}${why}`, cause),
        );
      if (signal?.aborted) {
        fail(": the client went away");
        return;
      }
      // The second time over a connection of its own: the others in the pool may be as dead as the first.
      const agent = again ? false : this.#agent;
      const request = this.#request({ ...this.#origin, agent, method, path, headers });
      let answered = false;
      const abandon = () => request.destroy(new Error("the client went away"));
      const deadline = setTimeout(() => {
        this.#options.rate.throttled();
        request.destroy(new Error(`no answer after ${this.#options.timeoutMs} ms`));
      }, this.#options.timeoutMs);
      signal?.addEventListener("abort", abandon, { once: true });
      const settle = () => {
        clearTimeout(deadline);
        signal?.removeEventListener("abort", abandon);
      };
      request.once("response", (answer) => {
        answered = true;
        settle();
        resolve(answer);
      });
      request.on("error", (error: NodeJS.ErrnoException) => {
        settle();
        if (answered) return; // its body's reader is told by the answer itself
        const stale = request.reusedSocket && (error.code === "ECONNRESET" || error.code === "EPIPE");
        if (stale && !again && !signal?.aborted) {
          this.#options.rate.charge();
          resolve(this.#send(method, path, headers, signal, true));
        } else fail("", error);
      });
      request.end();
    });
  }
}
