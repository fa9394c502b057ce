import { UpstreamError } from "./upstream-answer.ts";

export type TokenAnswer = { readonly status: number; readonly body: string; readonly ttlHeader: string };

type Held = { readonly value: string; readonly renewAt: number; readonly deadAt: number };

const askedSeconds = 21_600;
/** How long before its end a token is renewed, while it still serves. */
const renewAheadMs = 5 * 60_000;

/**
 * The proxy's own session token of the real service, one for all containers, which never see it. The empty text stands for "none needed":
 * services from before IMDSv2, stand-ins mostly, do not know the token path.
 */
export class UpstreamToken {
  readonly #now: () => number;
  readonly #ask: (ttlSeconds: number) => Promise<TokenAnswer>;
  #held: Held | undefined;
  #asking: Promise<string> | undefined;

  constructor(options: { now: () => number; ask: (ttlSeconds: number) => Promise<TokenAnswer> }) {
    this.#now = options.now;
    this.#ask = options.ask;
  }

  /** Undefined if there is none. Near its end it still serves, while a new one is asked for in the background. */
  living(): string | undefined {
    const held = this.#held;
    if (held === undefined) return undefined;
    const now = this.#now();
    if (now >= held.deadAt) return undefined;
    // A failure here is no loss: the next request asks again, and after the token's end it fails itself and says why.
    if (now >= held.renewAt) this.fresh().catch(() => undefined);
    return held.value;
  }

  /** A new one; whoever asks meanwhile gets the same. Rejects with UpstreamError. */
  fresh(): Promise<string> {
    this.#asking ??= this.#fetch().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  /** The service said 401 to it. Nothing happens if another has taken its place already. */
  refused(value: string): void {
    if (this.#held?.value === value) this.#held = undefined;
  }

  async #fetch(): Promise<string> {
    const asked = this.#now();
    const answer = await this.#ask(askedSeconds);
    if (answer.status === 404 || answer.status === 405) {
      // Asked again in a minute.
      this.#held = { value: "", renewAt: asked + 60_000, deadAt: asked + 60_000 };
      return "";
    }
    if (answer.status !== 200 || !/^[\x21-\x7e]{1,1024}$/.test(answer.body)) {
      // 403 is the service's word for "turned off"; an operator must hear it.
      const what = answer.status === 200 ? "something that is no token" : String(answer.status);
      throw new UpstreamError(503, `asking the metadata service for a session token: it answered ${what}`);
    }
    const told = /^\d{1,5}$/.test(answer.ttlHeader) ? Number(answer.ttlHeader) : askedSeconds;
    const lifeMs = Math.min(told, askedSeconds) * 1000;
    const renewAt = asked + Math.max(lifeMs / 2, lifeMs - renewAheadMs);
    this.#held = { value: answer.body, renewAt, deadAt: asked + lifeMs };
    return answer.body;
  }
}
