/**
 * Runs `work` once at a time: a call while one is under way gets that one's promise, also where it rejects.
 * Nothing is remembered after it has settled.
 */
export function singleFlight<T>(work: () => Promise<T>): () => Promise<T> {
  let flight: Promise<T> | undefined;
  return () => {
    flight ??= work().finally(() => {
      flight = undefined;
    });
    return flight;
  };
}
