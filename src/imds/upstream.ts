import type { ServerResponse } from "node:http";
import { explain } from "../errors.ts";
import { readBody } from "../metadata/body.ts";
import type { MetadataClient } from "../metadata/client.ts";
import { MetadataError } from "../metadata/error.ts";
import { type Answer, sendAnswer } from "./answers.ts";
import { classify, upstreamPath } from "./paths.ts";
import { refusalAnswer, type UpstreamCode } from "./refusals.ts";
import { instead, isPassed, UpstreamBusy, UpstreamError, whole } from "./upstream-answer.ts";
import { sharing, UpstreamCache } from "./upstream-cache.ts";
import { type Client, UpstreamFlights } from "./upstream-flights.ts";
import { UpstreamQueue } from "./upstream-queue.ts";
import { UpstreamRate } from "./upstream-rate.ts";
import { longestBody, type StreamRequest, stream, taken } from "./upstream-stream.ts";
import { Unread } from "./upstream-unread.ts";

export type UpstreamOptions = {
  /** The real service; closed by its owner. */
  readonly metadata: Pick<MetadataClient, "forward">;
  /** How long answers that do not change on a running instance are cached; 0 disables the cache. */
  readonly cacheSeconds: number;
  /** Requests to the service, from all containers together. */
  readonly requestsPerSecond: number;
  /** Milliseconds of a monotonic clock; only differences count. */
  readonly now: () => number;
  /**
   * From the request to the response headers; the body may take as long again. Default 5 s: no SDK waits
   * longer.
   */
  readonly timeoutMs?: number;
};

/** `reason`: what went wrong, for the log. */
export type ForwardResult =
  | { readonly ok: true }
  | { readonly ok: false; readonly code: UpstreamCode; readonly reason: string };

/** Of an error that `forward` or `text` met. */
export function upstreamCode(error: unknown): UpstreamCode {
  if (error instanceof UpstreamBusy) return "upstream-busy";
  if (error instanceof UpstreamError) return error.status === 502 ? "upstream-invalid" : "upstream";
  if (error instanceof MetadataError) return error.kind === "bad-answer" ? "upstream-invalid" : "upstream";
  return "internal";
}

/** The real instance metadata service, as containers may see it. */
export class Upstream {
  readonly #metadata: UpstreamOptions["metadata"];
  readonly #rate: UpstreamRate;
  readonly #cache: UpstreamCache;
  readonly #flights: UpstreamFlights;
  readonly #unread = new Unread();
  readonly #timeoutMs: number;

  constructor(options: UpstreamOptions) {
    const { now } = options;
    this.#timeoutMs = options.timeoutMs ?? 5000;
    this.#metadata = options.metadata;
    this.#rate = new UpstreamRate(options.requestsPerSecond, now);
    this.#cache = new UpstreamCache({ cacheSeconds: options.cacheSeconds, now });
    this.#flights = new UpstreamFlights(new UpstreamQueue({ rate: this.#rate, now }), this.#timeoutMs);
  }

  /**
   * Answers `response`. A cached answer has been sent when this returns. Never rejects: the client gets an
   * error page, and the result says why.
   */
  forward(request: StreamRequest, response: ServerResponse): ForwardResult | Promise<ForwardResult> {
    const cached = this.#cache.get(request.path, request.container);
    if (cached === undefined) return this.#forwardUncached(request, response);
    sendAnswer(response, cached, request.tokenSecondsLeft);
    return { ok: true };
  }

  /**
   * A text that the proxy itself reads: a listing, the region, the instance id. Undefined if the service has
   * none; rejects if the service fails.
   * @param container on whose behalf, and in whose queue, the request is made; without it there is no queue
   * @param client leaves the queue when it closes
   */
  async text(path: string, container?: string, client?: Client): Promise<string | undefined> {
    const asked = classify("GET", path);
    if (upstreamPath(asked) !== path) throw new Error(`${path} is not a metadata path in its canonical form`);
    const answer = this.#cache.get(path, container) ?? (await this.#ask(path, container, client));
    if (answer.status === 200) return Buffer.from(answer.body, "latin1").toString("utf8");
    if (answer.status === 404) return undefined;
    // Some services redirect a directory without its trailing slash; both are the same path to classify.
    if (answer.status === 301 && !path.endsWith("/")) return await this.text(`${path}/`, container, client);
    throw new UpstreamError(
      503,
      `requesting ${path} from the metadata service: it answered ${answer.status}`,
    );
  }

  /** Where an answer to this request would come from now; for the access log. */
  source(path: string, container: string): "cache" | "service" {
    return this.#cache.get(path, container) === undefined ? "service" : "cache";
  }

  close(): void {
    this.#flights.close();
  }

  async #forwardUncached(request: StreamRequest, response: ServerResponse): Promise<ForwardResult> {
    const { path, container } = request;
    try {
      // The handler has checked this too. Whatever mistake is made there, no other path leaves this process.
      const asked = classify(request.method, path);
      if (asked.kind !== "metadata" || asked.path !== path)
        throw new Error(`refusing to forward ${path}, which is not a metadata path in its canonical form`);
      // Before the service is asked.
      if (!this.#unread.mayHold(container, 1)) throw unread(path);
      const answer =
        sharing(path) === "alone"
          ? await this.#flights.alone(path, container, () => this.#stream(request, response), response)
          : await this.#ask(path, container, response);
      if (answer === "sent") {
        await taken(response, path, this.#timeoutMs);
        return { ok: true };
      }
      if (!this.#unread.hold(container, answer.body.length, response)) throw unread(path);
      sendAnswer(response, answer, request.tokenSecondsLeft);
      return { ok: true };
    } catch (error) {
      const code = upstreamCode(error);
      // Once the headers are sent, closing the connection is the only way to report an incomplete body.
      if (response.headersSent) response.destroy();
      else sendAnswer(response, refusalAnswer(code), request.tokenSecondsLeft);
      return { ok: false, code, reason: explain(error) };
    }
  }

  #ask(path: string, container: string | undefined, client: Client | undefined): Promise<Answer> {
    return this.#flights.join(
      path,
      container,
      async (by, askers) => {
        const answer = await this.#fetch(path);
        // A later request finds it in the cache, or asks the service again.
        const others = askers.size > (by !== undefined && askers.has(by) ? 1 : 0);
        this.#cache.keep(path, answer, by, others);
        return answer;
      },
      client,
    );
  }

  async #fetch(path: string): Promise<Answer> {
    const upstream = await this.#metadata.forward({
      method: "GET",
      path,
      timeoutMs: this.#timeoutMs,
      meter: this.#rate,
    });
    if (!isPassed(upstream)) return instead(upstream, path);
    return whole(upstream, await readBody(upstream, longestBody, this.#timeoutMs));
  }

  #stream(request: StreamRequest, response: ServerResponse) {
    const context = {
      metadata: this.#metadata,
      meter: this.#rate,
      unread: this.#unread,
      timeoutMs: this.#timeoutMs,
    };
    return stream(context, request, response);
  }
}

function unread(path: string): UpstreamBusy {
  return new UpstreamBusy(`forwarding ${path}: the container has too many unread answers`);
}
