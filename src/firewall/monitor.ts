import type { Follow } from "./command.ts";

type Options = {
  readonly follow: Follow;
  readonly command: string;
  readonly args: readonly string[];
  readonly onLine: (line: string) => void;
  /** Called a moment after each start, when the command reports changes: earlier ones may be missed. */
  readonly onStart: () => void;
  /** Called when the command ends although it should not. */
  readonly onEnd: (reason: string) => void;
  /** Resolves early when the signal is aborted. Never rejects. */
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  /** A monotonic clock in milliseconds. */
  readonly now: () => number;
};

/** From the start of `nft monitor` or `ip monitor` until it has subscribed. */
const subscribedMs = 500;
const retryMs = { first: 500, longest: 60_000 };
/** After it has run for this long, the next failure is not a continuation of the last. */
const stableMs = 60_000;

/** Keeps a command running that reports changes of the host, such as `nft monitor`. */
export class Monitor {
  readonly #options: Options;
  readonly #closing = new AbortController();
  readonly #finished: Promise<void>;

  constructor(options: Options) {
    this.#options = options;
    this.#finished = this.#keepRunning();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#finished;
  }

  async #keepRunning(): Promise<void> {
    const { follow, command, args, onLine, onStart, onEnd, sleep, now } = this.#options;
    const { signal } = this.#closing;
    let failures = 0;
    while (!signal.aborted) {
      const startedAt = now();
      const ended = new AbortController();
      void sleep(subscribedMs, AbortSignal.any([signal, ended.signal])).then(() => {
        if (!signal.aborted && !ended.signal.aborted) onStart();
      });
      const reason = await follow(command, args, onLine, signal);
      ended.abort();
      if (signal.aborted) return;
      onEnd(reason);
      if (now() - startedAt > stableMs) failures = 0;
      await sleep(Math.min(retryMs.longest, retryMs.first * 2 ** Math.min(failures, 10)), signal);
      failures += 1;
    }
  }
}
