import { MetadataError } from "./error.ts";

/** Whether the metadata service answers, as its last exchanges show. Times are in milliseconds. */
export type MetadataState = {
  /** Exchanges in a row that failed, since the last one that did not; undefined if the last one did not. */
  readonly failure:
    | { readonly exchanges: number; readonly forMs: number; readonly error: MetadataError }
    | undefined;
  /** Since the last exchange; undefined before the first one. */
  readonly quietMs: number | undefined;
};

/** Notes how each exchange with the metadata service ended. */
export class Reachability {
  readonly #now: () => number;
  #failure: { readonly since: number; readonly exchanges: number; readonly error: MetadataError } | undefined;
  #notedAt: number | undefined;

  /** @param now a monotonic clock in milliseconds */
  constructor(now: () => number) {
    this.#now = now;
  }

  /**
   * An answer. For a container's request it only shows that the service answers: what a container asks for
   * must not make the service look broken.
   */
  answered(path: string, status: number, isOwn: boolean): void {
    const isBad = status === 403 || status === 429 || status >= 500;
    if (!isBad) {
      this.#notedAt = this.#now();
      this.#failure = undefined;
    } else if (isOwn) this.failed(new MetadataError("bad-answer", `${path}: status ${status}`, { status }));
  }

  failed(error: MetadataError): void {
    const now = this.#now();
    const { since = now, exchanges = 0 } = this.#failure ?? {};
    this.#notedAt = now;
    this.#failure = { since, exchanges: exchanges + 1, error };
  }

  state(): MetadataState {
    const now = this.#now();
    const failure = this.#failure;
    return {
      failure: failure && {
        exchanges: failure.exchanges,
        error: failure.error,
        forMs: now - failure.since,
      },
      quietMs: this.#notedAt === undefined ? undefined : now - this.#notedAt,
    };
  }
}
