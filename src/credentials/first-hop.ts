import { AssumeRoleError } from "./assume-role.ts";
import type { Credentials } from "./document.ts";
import type { HostKeys } from "./host-credentials.ts";

const renewBeforeMs = 10 * 60_000;
const leastPauseMs = 5_000;

/**
 * The keys of `sts.assumeFirst`: the role that the host assumes before the containers' roles. One call for all who need them.
 * That this role is refused is the operator's fault and says nothing about a container's role: so it never counts as a refusal.
 */
export class FirstHop {
  readonly #open: () => Promise<Credentials>;
  readonly #now: () => number;
  #keys: HostKeys | undefined;
  #opening: Promise<HostKeys> | undefined;
  #openedAt = Number.NEGATIVE_INFINITY;

  constructor(open: () => Promise<Credentials>, now: () => number) {
    this.#open = open;
    this.#now = now;
  }

  async current(): Promise<HostKeys> {
    const keys = this.#keys;
    if (keys === undefined) return this.#renew();
    const left = (keys.expiresAt ?? 0) - this.#now();
    if (left > renewBeforeMs || this.#now() - this.#openedAt < leastPauseMs) return keys;
    return left > 0 ? this.#renew().catch(() => keys) : this.#renew();
  }

  /** STS did not like `rejected`. True if others are there, or will be made at the next call. */
  async replaced(rejected: HostKeys): Promise<boolean> {
    if (this.#keys !== rejected) return true;
    if (this.#now() - this.#openedAt < leastPauseMs) return false;
    this.#keys = undefined;
    return true;
  }

  #renew(): Promise<HostKeys> {
    this.#opening ??= this.#renewNow().finally(() => {
      this.#opening = undefined;
    });
    return this.#opening;
  }

  async #renewNow(): Promise<HostKeys> {
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
  }
}
