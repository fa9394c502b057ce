/** Delays between connection attempts, in milliseconds. */
export type RetryTimes = {
  readonly first: number;
  readonly max: number;
  /** The limit for an engine that answered and then dropped the connection. */
  readonly maxAfterAnswer: number;
};

/** How long a connection lasted after the engine had sent its list; undefined if it never did. */
export type Attempt = { readonly lastedMs: number | undefined };

/** A connection that lasted this long is not part of a series of failures. */
const steadyMs = 30_000;

/** The failures in a row, including the attempt that has just ended. */
export function failuresAfter({ lastedMs }: Attempt, failures: number): number {
  return lastedMs !== undefined && lastedMs > steadyMs ? 0 : failures + 1;
}

/** Exponential back-off with jitter. `random` is in [0, 1). */
export function retryDelayMs(
  { lastedMs }: Attempt,
  failures: number,
  times: RetryTimes,
  random: number,
): number {
  // Sooner for an engine that answered: the containers that it starts in the gap are unknown.
  const max = lastedMs === undefined ? times.max : times.maxAfterAnswer;
  const delay = Math.min(max, times.first * 2 ** Math.min(failures, 10));
  return delay * (0.5 + random / 2);
}
