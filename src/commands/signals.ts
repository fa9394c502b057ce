/** The process's signals that a service handles. */
export type SignalSource = {
  readonly on: (signal: "SIGTERM" | "SIGINT" | "SIGHUP", run: () => void) => void;
};

/**
 * SIGHUP reloads, one at a time; one that comes before `onReload` waits for it. SIGTERM and SIGINT resolve
 * `stop`.
 */
export function listenForSignals(host: SignalSource): {
  readonly stop: Promise<void>;
  onReload(reload: () => Promise<void>): void;
} {
  const { promise: stop, resolve } = Promise.withResolvers<void>();
  const { promise: reloadable, resolve: setReload } = Promise.withResolvers<() => Promise<void>>();
  let reloading: Promise<void> = Promise.resolve();
  host.on("SIGHUP", () => {
    reloading = reloading.then(async () => (await reloadable)());
  });
  host.on("SIGTERM", resolve);
  host.on("SIGINT", resolve);
  return { stop, onReload: setReload };
}
