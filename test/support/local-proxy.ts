import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const main = join(import.meta.dirname, "../../src/main.ts");
const readyMs = 20_000;

/** The real proxy as a process of its own, with a configuration in a folder that goes away with it. */
export type DemoProxy = AsyncDisposable & {
  readonly port: number;
  readonly configPath: string;
  readonly directory: string;
  readonly pid: number;
  log(): string;
};

/** Starts `ec2metaproxy serve` and resolves when it says that it is ready. */
export async function startProxy(
  config: Readonly<Record<string, unknown>>,
  environment: Readonly<Record<string, string>>,
  nodeArguments: readonly string[] = [],
): Promise<DemoProxy> {
  const directory = await mkdtemp(join(tmpdir(), "ec2metaproxy-demo-"));
  const port = await freePort();
  const configPath = join(directory, "config.json");
  await writeFile(configPath, JSON.stringify({ listen: `:${port}`, ...config }, null, 2));
  const child = spawn(process.execPath, [...nodeArguments, main, "serve", "-c", configPath], {
    env: { PATH: process.env.PATH ?? "", HOME: directory, RUNTIME_DIRECTORY: directory, ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let log = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => (log += text));
  const stop = async () => {
    await end(child);
    await rm(directory, { recursive: true, force: true });
  };
  try {
    await ready(child, () => log);
  } catch (error) {
    await stop();
    throw error;
  }
  return { port, configPath, directory, pid: child.pid ?? 0, log: () => log, [Symbol.asyncDispose]: stop };
}

async function ready(child: ChildProcess, log: () => string): Promise<void> {
  const deadline = Date.now() + readyMs;
  while (!/^ready: /m.test(log())) {
    if (child.exitCode !== null) throw new Error(`the proxy ended with ${child.exitCode}:\n${log()}`);
    if (Date.now() > deadline) throw new Error(`the proxy is not ready after ${readyMs / 1000} s:\n${log()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill("SIGTERM");
  const killer = setTimeout(() => child.kill("SIGKILL"), 10_000);
  await ended;
  clearTimeout(killer);
}

/** A port that nobody has now; between this and the proxy's bind somebody could take it, which the proxy would then say. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer().once("error", reject);
    probe.listen(0, () => {
      const address = probe.address();
      probe.close(() =>
        address !== null && typeof address === "object"
          ? resolve(address.port)
          : reject(new Error("no port")),
      );
    });
  });
}
