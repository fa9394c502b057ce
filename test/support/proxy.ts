/**
 * Where a proxy runs: a child process of this one (local-proxy.ts), or a unit of a booted host
 * (host/proxy.ts).
 */
export type ProxyRunner = AsyncDisposable & {
  /** Keys that a configuration gets unless it has them itself. */
  readonly defaults: Readonly<Record<string, unknown>>;
  writeConfigFile(text: string): Promise<void>;
  /** Resolves when the proxy is ready to serve. */
  start(): Promise<void>;
  stop(): Promise<void>;
};

export type StartedProxy<Runner extends ProxyRunner> = Runner & {
  /** Writes the file only; `restart` makes the proxy read it. */
  writeConfig(config: Readonly<Record<string, unknown>>): Promise<void>;
  restart(): Promise<void>;
};

/** Starts `ec2metaproxy serve` from this repository's source and resolves when it is ready to serve. */
export async function startProxy<Runner extends ProxyRunner>(
  runner: Runner,
  config: Readonly<Record<string, unknown>>,
): Promise<StartedProxy<Runner>> {
  const proxy = {
    ...runner,
    writeConfig: (content: Readonly<Record<string, unknown>>) =>
      runner.writeConfigFile(JSON.stringify({ ...runner.defaults, ...content }, null, 2)),
    restart: async () => {
      await runner.stop();
      await runner.start();
    },
  };
  try {
    await proxy.writeConfig(config);
    await runner.start();
  } catch (error) {
    await runner[Symbol.asyncDispose]();
    throw error;
  }
  return proxy;
}
