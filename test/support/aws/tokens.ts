import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";

/** Session tokens of IMDSv2. Each is signed and contains its expiry, so that no state is needed. */
export class SessionTokens {
  readonly #now: () => number;
  #key = randomBytes(32);

  constructor(now: () => number) {
    this.#now = now;
  }

  /** 56 characters, `AQA…==`, like genuine tokens. */
  issue(ttlSeconds: number): string {
    const head = Buffer.alloc(16);
    head.set([1, 0, 0]);
    head.writeUIntBE(this.#now() + ttlSeconds * 1000, 3, 6);
    randomBytes(7).copy(head, 9);
    return `${Buffer.concat([head, this.#sign(head)]).toString("base64url")}==`;
  }

  /** The remaining seconds of the token; undefined if it is not ours, was altered, or has expired. */
  remainingSeconds(token: string): number | undefined {
    if (!/^[\w-]{54}==$/.test(token)) return undefined;
    const bytes = Buffer.from(token, "base64url");
    const head = bytes.subarray(0, 16);
    if (!timingSafeEqual(bytes.subarray(16), this.#sign(head))) return undefined;
    const leftMs = head.readUIntBE(3, 6) - this.#now();
    return leftMs > 0 ? Math.floor(leftMs / 1000) : undefined;
  }

  /** Invalidates every token issued so far, as a stop and start of the instance does. */
  invalidateAll(): void {
    this.#key = randomBytes(32);
  }

  #sign(head: Buffer): Buffer {
    return createHmac("sha256", this.#key).update(head).digest().subarray(0, 24);
  }
}

/** The TTL that a PUT requests: 1 to 21600 seconds; undefined is answered with 400. */
export function requestedTtl(header: string | string[] | undefined): number | undefined {
  if (typeof header !== "string" || !/^\d{1,5}$/.test(header)) return undefined;
  const seconds = Number(header);
  return seconds >= 1 && seconds <= 21_600 ? seconds : undefined;
}
