/** The process's signals, as far as a service needs them. */
export type SignalSource = {
  readonly on: (signal: "SIGTERM" | "SIGINT" | "SIGHUP", run: () => void) => void;
};

/** Reloads one after another, those asked for before we can included; and the end, by whichever signal asks for it. */
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
