import { singleFlight } from "../single-flight.ts";
import { MetadataError } from "./error.ts";

/** The answer to a token request; `ttlHeader` is empty without one. */
export type TokenAnswer = { readonly status: number; readonly body: string; readonly ttlHeader: string };

/** Sends one token request. */
export type RequestToken = (ttlSeconds: number) => Promise<TokenAnswer>;

type Held = { readonly value: string; readonly renewAt: number; readonly expiresAt: number };

/** IMDS's maximum. */
const ttlSeconds = 21_600;
/** A token is renewed this long before it expires, while it is still valid. */
const renewBeforeMs = 5 * 60_000;
/** How long it is remembered that the service issues no tokens. */
const unsupportedMs = 60_000;

/**
 * This host's own session token of the real service. One token for all requests; no container ever sees it.
 *
 * The empty string stands for "the service does not issue tokens": services older than IMDSv2, mostly
 * stand-ins, do not know the token path. Whether a request may go out without a token is for the caller to
 * decide.
 */
export class MetadataSessionToken {
  readonly #now: () => number;
  #held: Held | undefined;

  /** `now`: milliseconds, monotonic. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /**
   * The token in hand; undefined if there is none. Close to its expiry it is renewed in the background by
   * `request`.
   */
  valid(request: RequestToken): string | undefined {
    const held = this.#held;
    if (held === undefined) return undefined;
    const now = this.#now();
    if (now >= held.expiresAt) return undefined;
    // A failure is harmless here: the next request tries again, and after the expiry it fails itself and
    // reports why.
    if (now >= held.renewAt) this.renew(request).catch(() => undefined);
    return held.value;
  }

  /** Gets a new token. Concurrent callers share the first one's request. Rejects with a MetadataError. */
  readonly renew = singleFlight((request: RequestToken) => this.#renew(request));

  /** The service answered 401 to this token. Does nothing if it has been replaced already. */
  rejected(value: string): void {
    if (this.#held?.value === value) this.#held = undefined;
  }

  async #renew(request: RequestToken): Promise<string> {
    const requestedAt = this.#now();
    const answer = await request(ttlSeconds);
    if (answer.status === 404 || answer.status === 405) {
      const until = requestedAt + unsupportedMs;
      this.#held = { value: "", renewAt: until, expiresAt: until };
      return "";
    }
    // The token goes into a header.
    if (answer.status !== 200 || !/^[\x21-\x7e]{1,1024}$/.test(answer.body)) {
      // 403 means that IMDS is turned off for this instance; the operator must see it.
      const what = answer.status === 200 ? "something that is not a token" : String(answer.status);
      throw new MetadataError(
        "no-answer",
        `asking the metadata service for a session token: it answered ${what}`,
        { status: answer.status },
      );
    }
    const grantedSeconds = /^\d{1,5}$/.test(answer.ttlHeader) ? Number(answer.ttlHeader) : ttlSeconds;
    const lifetimeMs = Math.min(grantedSeconds, ttlSeconds) * 1000;
    const renewAt = requestedAt + Math.max(lifetimeMs / 2, lifetimeMs - renewBeforeMs);
    this.#held = { value: answer.body, renewAt, expiresAt: requestedAt + lifetimeMs };
    return answer.body;
  }
}
