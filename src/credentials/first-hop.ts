import { singleFlight } from "../single-flight.ts";
import { AssumeRoleError } from "./assume-role.ts";
import type { Credentials } from "./document.ts";
import type { HostKeys } from "./host-credentials.ts";

const renewBeforeMs = 10 * 60_000;
/**
 * Close to the expiry, and when STS rejects the keys, the role is assumed again, but no more often than this.
 */
const minPauseMs = 5_000;

/**
 * The keys of `sts.assumeFirst`, the role that the host assumes before the containers' roles. Concurrent
 * requests share one AssumeRole call. If this role is refused, the operator has to fix it, and it says
 * nothing about a container's role. So it is reported as a temporary failure.
 */
export class FirstHop {
  readonly #open: () => Promise<Credentials>;
  readonly #now: () => number;
  #keys: HostKeys | undefined;
  #openedAt = Number.NEGATIVE_INFINITY;

  constructor(open: () => Promise<Credentials>, now: () => number) {
    this.#open = open;
    this.#now = now;
  }

  async current(): Promise<HostKeys> {
    const keys = this.#keys;
    if (keys === undefined) return this.#renew();
    const left = (keys.expiresAt ?? 0) - this.#now();
    if (left > renewBeforeMs || this.#now() - this.#openedAt < minPauseMs) return keys;
    return left > 0 ? this.#renew().catch(() => keys) : this.#renew();
  }

  /** STS rejected these keys. True if there are new ones, or the next call will get some. */
  async replaced(rejected: HostKeys): Promise<boolean> {
    if (this.#keys !== rejected) return true;
    if (this.#now() - this.#openedAt < minPauseMs) return false;
    this.#keys = undefined;
    return true;
  }

  readonly #renew = singleFlight(async (): Promise<HostKeys> => {
    this.#openedAt = this.#now();
    try {
      const opened = await this.#open();
      const { accessKeyId, secretAccessKey, sessionToken } = opened;
      const keys = {
        accessKeyId,
        secretAccessKey,
        sessionToken,
        expiresAt: opened.fetchedAt + opened.lifetimeMs,
      };
      this.#keys = keys;
      return keys;
    } catch (error) {
      if (!(error instanceof AssumeRoleError) || error.kind !== "refused") throw error;
      const message = `assuming the role of sts.assumeFirst: ${error.code}: ${error.message}`;
      throw new AssumeRoleError("temporary", "AssumeFirstRefused", message, error.httpStatus);
    }
  });
}
