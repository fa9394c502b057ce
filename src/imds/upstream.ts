import type { ServerResponse } from "node:http";
import { explain } from "../errors.ts";
import { readBody } from "../metadata/body.ts";
import type { MetadataClient } from "../metadata/client.ts";
import { type Answer, errorAnswers, sendAnswer } from "./answers.ts";
import { classify } from "./paths.ts";
import { instead, isPassed, statusOf, UpstreamBusy, UpstreamError, whole } from "./upstream-answer.ts";
import { sharing, UpstreamCache } from "./upstream-cache.ts";
import { type Client, UpstreamFlights } from "./upstream-flights.ts";
import { UpstreamQueue } from "./upstream-queue.ts";
import { UpstreamRate } from "./upstream-rate.ts";
import { longestBody, type StreamRequest, stream, taken } from "./upstream-stream.ts";
import { Unread } from "./upstream-unread.ts";

export type UpstreamOptions = {
  /** The real service; closed by its owner. */
  readonly metadata: Pick<MetadataClient, "forward">;
  /** How long what does not change on a running instance is kept; 0: not at all. */
  readonly cacheSeconds: number;
  /** To the service, of all containers together. */
  readonly requestsPerSecond: number;
  /** Milliseconds of a clock that is never set back; only differences count. */
  readonly now: () => number;
  /** From the question to the answer's headers; its body may take as long again. Default 5 s: no SDK waits longer. */
  readonly timeoutMs?: number;
};

/**
 * `container`: the id of the one that asks. `path`: from classify's `metadata`. `range`: the client's; passed on only for what is streamed (user-data).
 * `tokenSecondsLeft`: what is left of the client's own session token, said in the answer in place of the service's word on ours.
 */
export type ForwardRequest = StreamRequest;

export type ForwardResult = {
  readonly status: number;
  /** Of the body. */
  readonly bytes: number;
  readonly from: "cache" | "upstream" | "nowhere";
  /** What went wrong with the real service, in words for the log. */
  readonly problem?: string;
  /** Of a problem: one of docs/refusals.md. */
  readonly code?: UpstreamCode;
};

/** `upstream-busy`: the container has its share of the service under way already, or all share a slow one. */
export type UpstreamCode = "upstream" | "upstream-busy";

export function upstreamCode(error: unknown): UpstreamCode {
  return error instanceof UpstreamBusy ? "upstream-busy" : "upstream";
}

/** The real instance metadata service, as far as containers may see it. */
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

  /** Answers `response`. What is cached has been sent when this returns. Never rejects: a failure is an answer, and a `problem`. */
  forward(request: ForwardRequest, response: ServerResponse): ForwardResult | Promise<ForwardResult> {
    const kept = this.#cache.get(request.path, request.container);
    if (kept === undefined) return this.#forwardAnew(request, response);
    sendAnswer(response, kept, request.tokenSecondsLeft);
    return { status: kept.status, bytes: kept.body.length, from: "cache" };
  }

  /**
   * A text that the proxy itself reads: a listing, the region, the instance's id. Undefined if the service has none; rejects if it cannot be asked.
   * @param container for which it is asked, and in whose queue it waits; without it nothing waits
   * @param client gives the place in the queue up by its `close`
   */
  async text(path: string, container?: string, client?: Client): Promise<string | undefined> {
    const asked = classify("GET", path);
    if (!("path" in asked) || asked.path !== path)
      throw new Error(`${path} is not a metadata path in its canonical form`);
    const answer = this.#cache.get(path, container) ?? (await this.#ask(path, container, client));
    if (answer.status === 200) return Buffer.from(answer.body, "latin1").toString("utf8");
    if (answer.status === 404) return undefined;
    // A folder asked for without its slash, at a service that insists on it: the same path to classify, and to us.
    if (answer.status === 301 && !path.endsWith("/")) return await this.text(`${path}/`, container, client);
    throw new UpstreamError(503, `asking the metadata service for ${path}: it answered ${answer.status}`);
  }

  close(): void {
    this.#flights.close();
  }

  async #forwardAnew(request: ForwardRequest, response: ServerResponse): Promise<ForwardResult> {
    const { path, container } = request;
    try {
      // The last gate, behind the handler's: whatever mistake is made before, nothing else leaves this process.
      const asked = classify(request.method, path);
      if (asked.kind !== "metadata" || asked.path !== path)
        throw new Error(`refusing to forward ${path}, which is no metadata path in its canonical form`);
      // Before the service is troubled.
      if (!this.#unread.mayHold(container, 1)) throw unread(path);
      const answer =
        sharing(path) === "alone"
          ? await this.#flights.alone(path, container, () => this.#stream(request, response), response)
          : await this.#ask(path, container, response);
      if (!("body" in answer)) {
        await taken(response, path, this.#timeoutMs);
        return { ...answer, from: "upstream" };
      }
      if (!this.#unread.hold(container, answer.body.length, response)) throw unread(path);
      sendAnswer(response, answer, request.tokenSecondsLeft);
      return { status: answer.status, bytes: answer.body.length, from: "upstream" };
    } catch (error) {
      const status = statusOf(error);
      // With headers out, a broken connection is the only way to say that the body is not whole.
      if (response.headersSent) response.destroy();
      else {
        sendAnswer(response, errorAnswers[status], request.tokenSecondsLeft);
      }
      return { status, bytes: 0, from: "nowhere", problem: explain(error), code: upstreamCode(error) };
    }
  }

  #ask(path: string, container: string | undefined, client: Client | undefined): Promise<Answer> {
    return this.#flights.join(
      path,
      container,
      async (by, askers) => {
        const answer = await this.#fetch(path);
        // Whoever asks from now on finds it kept, or asks anew.
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

  #stream(request: ForwardRequest, response: ServerResponse) {
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
  return new UpstreamBusy(`forwarding ${path}: too much was not read yet of what it was sent`);
}
