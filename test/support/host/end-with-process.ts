/**
 * Calls `end` when this process exits or receives SIGINT, SIGTERM or SIGHUP; then the signal takes its
 * default action. Call the returned function when there is nothing left to end. `end` must be synchronous and
 * must not throw.
 */
export function endWithThisProcess(end: () => unknown): () => void {
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  const onSignal = (name: NodeJS.Signals): void => {
    stop();
    end();
    process.kill(process.pid, name);
  };
  const onExit = (): void => {
    stop();
    end();
  };
  const stop = (): void => {
    process.off("exit", onExit);
    for (const name of signals) process.off(name, onSignal);
  };
  process.on("exit", onExit);
  for (const name of signals) process.on(name, onSignal);
  return stop;
}
