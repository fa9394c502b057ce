import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import type { ProxyRunner } from "./proxy.ts";

const main = join(import.meta.dirname, "../../src/main.ts");
const readyTimeoutMs = 30_000;
const stopTimeoutMs = 10_000;

/** A proxy as a child process. */
export type LocalProxy = ProxyRunner & {
  /** On every address of this machine, unless the configuration has a `listen` of its own. */
  readonly port: number;
  /** At the loopback address. */
  readonly endpoint: string;
  readonly configPath: string;
  /** Holds the configuration and the runtime directory's files; removed on disposal. */
  readonly directory: string;
  /** Of the process that was started last. */
  pid(): number;
  /** Everything that it has written so far, on both streams, over all starts. */
  log(): string;
};

/**
 * @param nodeArguments arguments for Node, before the program
 * @param serveArguments arguments of `serve`, beside the configuration
 */
export async function localProxy(
  nodeArguments: readonly string[] = [],
  serveArguments: readonly string[] = [],
): Promise<LocalProxy> {
  const directory = await mkdtemp(join(tmpdir(), "ec2metaproxy-"));
  const configPath = join(directory, "config.json");
  const port = await freePort();
  const launch = () => {
    const child = execa(
      process.execPath,
      [...nodeArguments, main, "serve", "-c", configPath, ...serveArguments],
      {
        env: { PATH: process.env.PATH ?? "", HOME: directory, RUNTIME_DIRECTORY: directory },
        extendEnv: false,
        stdin: "ignore",
        buffer: false,
        reject: false,
        forceKillAfterDelay: stopTimeoutMs,
      },
    );
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (chunk: Buffer) => {
        log += chunk.toString();
      });
    return child;
  };
  let log = "";
  let child: ReturnType<typeof launch> | undefined;
  const stop = async () => {
    child?.kill("SIGTERM");
    await child;
  };
  return {
    port,
    endpoint: `http://127.0.0.1:${port}`,
    configPath,
    directory,
    defaults: { listen: `:${port}` },
    pid: () => child?.pid ?? 0,
    log: () => log,
    writeConfigFile: (text) => writeFile(configPath, text),
    start: async () => {
      const logStart = log.length;
      child = launch();
      const { nodeChildProcess } = child;
      const deadline = Date.now() + readyTimeoutMs;
      while (!/^ready: /m.test(log.slice(logStart))) {
        const hasEnded = nodeChildProcess.exitCode !== null || nodeChildProcess.signalCode !== null;
        if (hasEnded || Date.now() > deadline) {
          const reason = hasEnded ? "it ended" : `it was not ready after ${readyTimeoutMs / 1000} s`;
          throw new Error(`starting the proxy: ${reason}:\n${log.slice(logStart)}`);
        }
        await sleep(20);
      }
    },
    stop,
    [Symbol.asyncDispose]: async () => {
      await stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/**
 * A port that is free now. If somebody takes it before the proxy does, the proxy fails to start and says so.
 */
async function freePort(): Promise<number> {
  const probe = createServer().listen(0);
  await once(probe, "listening");
  const { port } = probe.address() as AddressInfo; // an object for a TCP server
  probe.close();
  await once(probe, "close");
  return port;
}
