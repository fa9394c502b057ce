/**
 * Runs `work` once at a time: a call while one is in progress gets the same promise, also if it rejects.
 * The arguments of the call that starts it count. Nothing is kept after it has settled.
 */
export function singleFlight<Args extends readonly unknown[], T>(
  work: (...args: Args) => Promise<T>,
): (...args: Args) => Promise<T> {
  let flight: Promise<T> | undefined;
  return (...args) => {
    flight ??= work(...args).finally(() => {
      flight = undefined;
    });
    return flight;
  };
}
