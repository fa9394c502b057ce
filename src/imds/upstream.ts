import type { ServerResponse } from "node:http";
import { pipeline } from "node:stream/promises";
import { explain } from "../errors.ts";
import { type Answer, errorAnswers, sendAnswer, ttlHeader } from "./errors.ts";
import { classify } from "./paths.ts";
import { instead, isPassed, passed, readBody, UpstreamError, whole } from "./upstream-answer.ts";
import { sharing, UpstreamCache } from "./upstream-cache.ts";
import { UpstreamWire } from "./upstream-wire.ts";

export type UpstreamOptions = {
  /** Origin only, e.g. `http://169.254.169.254`. */
  readonly endpoint: string;
  /** How long what does not change on a running instance is kept; 0: not at all. */
  readonly cacheSeconds: number;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** From the question to the answer's headers; its body may take as long again. Default 5 s: no SDK waits longer. */
  readonly timeoutMs?: number;
};

export type ForwardRequest = {
  readonly method: "GET" | "HEAD";
  /** From classify's `metadata`. */
  readonly path: string;
  /** The client's `Range`; passed on only for what is streamed (user-data). */
  readonly range?: string | undefined;
  /** What is left of the client's own session token, said in the answer in place of the service's word on ours. */
  readonly tokenSecondsLeft?: number | undefined;
};

export type ForwardResult = {
  readonly status: number;
  /** Of the body. */
  readonly bytes: number;
  readonly from: "cache" | "upstream" | "nowhere";
  /** What went wrong with the real service, in words for the log. */
  readonly problem?: string;
};

/** User-data has at most 16 KiB, the largest of the rest (a certificate chain) a few more. */
const longestBody = 1024 * 1024;
/** Shorter ones are sent in one piece, with the certainty that they are complete. */
const streamedFrom = 64 * 1024;

/** The real instance metadata service, as far as containers may see it. */
export class Upstream {
  readonly #wire: UpstreamWire;
  readonly #cache: UpstreamCache;
  readonly #timeoutMs: number;

  constructor(options: UpstreamOptions) {
    this.#timeoutMs = options.timeoutMs ?? 5000;
    this.#wire = new UpstreamWire({
      endpoint: options.endpoint,
      now: options.now,
      timeoutMs: this.#timeoutMs,
    });
    this.#cache = new UpstreamCache({ cacheSeconds: options.cacheSeconds, now: options.now });
  }

  /** Answers `response`. What is cached has been sent when this returns. Never rejects: a failure is an answer, and a `problem`. */
  forward(request: ForwardRequest, response: ServerResponse): ForwardResult | Promise<ForwardResult> {
    const kept = this.#cache.get(request.path);
    if (kept === undefined) return this.#forwardAnew(request, response);
    sendAnswer(response, kept, request.tokenSecondsLeft);
    return { status: kept.status, bytes: kept.body.length, from: "cache" };
  }

  /** A text that the proxy itself needs: a listing, the region, the instance's id. Undefined if the service has none; rejects if it cannot be asked. */
  async text(path: string): Promise<string | undefined> {
    const asked = classify("GET", path);
    if (!("path" in asked) || asked.path !== path)
      throw new Error(`${path} is not a metadata path in its canonical form`);
    const answer = await this.#cache.read(path, () => this.#fetch(path));
    if (answer.status === 200) return Buffer.from(answer.body, "latin1").toString("utf8");
    if (answer.status === 404) return undefined;
    // A folder asked for without its slash, at a service that insists on it: the same path to classify, and to us.
    if (answer.status === 301 && !path.endsWith("/")) return await this.text(`${path}/`);
    throw new UpstreamError(503, `asking the metadata service for ${path}: it answered ${answer.status}`);
  }

  close(): void {
    this.#wire.close();
  }

  async #forwardAnew(request: ForwardRequest, response: ServerResponse): Promise<ForwardResult> {
    try {
      // The last gate, behind the handler's: whatever mistake is made before, nothing else leaves this process.
      const asked = classify(request.method, request.path);
      if (asked.kind !== "metadata" || asked.path !== request.path)
        throw new Error(
          `refusing to forward ${request.path}, which is no metadata path in its canonical form`,
        );
      if (sharing(request.path) === "alone") return await this.#stream(request, response);
      const answer = await this.#cache.read(request.path, () => this.#fetch(request.path));
      sendAnswer(response, answer, request.tokenSecondsLeft);
      return { status: answer.status, bytes: answer.body.length, from: "upstream" };
    } catch (error) {
      const status = error instanceof UpstreamError ? error.status : 500;
      // With headers out, a broken connection is the only way to say that the body is not whole.
      if (response.headersSent) response.destroy();
      else sendAnswer(response, errorAnswers[status], request.tokenSecondsLeft);
      return { status, bytes: 0, from: "nowhere", problem: explain(error) };
    }
  }

  async #fetch(path: string): Promise<Answer> {
    const upstream = await this.#wire.ask({ method: "GET", path });
    if (!isPassed(upstream)) return instead(upstream, path);
    return whole(upstream, await readBody(upstream, longestBody, this.#timeoutMs));
  }

  /** For one client alone: when it goes away, so does the question. */
  async #stream(request: ForwardRequest, response: ServerResponse): Promise<ForwardResult> {
    const left = new AbortController();
    const leave = () => left.abort();
    response.once("close", leave);
    try {
      const { method, path } = request;
      const upstream = await this.#wire.ask({
        method,
        path,
        range: safeRange(request.range),
        signal: left.signal,
      });
      const from = "upstream";
      if (!isPassed(upstream)) {
        const answer = instead(upstream, path);
        sendAnswer(response, answer, request.tokenSecondsLeft);
        return { status: answer.status, bytes: answer.body.length, from };
      }
      const status = upstream.statusCode ?? 502;
      const length = Number(upstream.headers["content-length"] ?? Number.NaN);
      if (length > longestBody) {
        upstream.destroy();
        throw new UpstreamError(
          502,
          `forwarding ${path}: the answer has ${length} bytes, more than ${longestBody}`,
        );
      }
      if (method === "GET" && !(length >= streamedFrom)) {
        const answer = whole(upstream, await readBody(upstream, longestBody, this.#timeoutMs));
        sendAnswer(response, answer, request.tokenSecondsLeft);
        return { status, bytes: answer.body.length, from };
      }
      const headers = passed(upstream, Number.isNaN(length) ? undefined : length);
      if (request.tokenSecondsLeft !== undefined) headers.push(ttlHeader, String(request.tokenSecondsLeft));
      response.writeHead(status, headers);
      const inTime = AbortSignal.any([left.signal, AbortSignal.timeout(this.#timeoutMs)]);
      await pipeline(upstream, response, { signal: inTime });
      return { status, bytes: method === "HEAD" ? 0 : length, from };
    } finally {
      response.off("close", leave);
    }
  }
}

function safeRange(range: string | undefined): string | undefined {
  return range !== undefined && /^bytes=[\d, -]{1,64}$/.test(range) ? range : undefined;
}
