import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const main = join(import.meta.dirname, "../../src/main.ts");

/** A proxy that can be started again at the same port, with the same key for session tokens or, as after a reboot, with another. */
export type RestartableProxy = AsyncDisposable & {
  readonly endpoint: string;
  restart(how: { readonly keepKey: boolean }): Promise<void>;
};

export async function startProxy(config: Readonly<Record<string, unknown>>): Promise<RestartableProxy> {
  const folder = await mkdtemp(join(tmpdir(), "ec2metaproxy-conformance-"));
  const port = await freePort();
  const configPath = join(folder, "config.json");
  await writeFile(
    configPath,
    JSON.stringify({ listen: `127.0.0.1:${port}`, dockerHost: "/nonexistent/docker.sock", ...config }),
  );
  let child = await start(configPath, folder);
  return {
    endpoint: `http://127.0.0.1:${port}`,
    restart: async ({ keepKey }) => {
      await end(child);
      if (!keepKey) await rm(join(folder, "token-key"));
      child = await start(configPath, folder);
    },
    [Symbol.asyncDispose]: async () => {
      await end(child);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function start(configPath: string, folder: string): Promise<ChildProcess> {
  const child = spawn(process.execPath, [main, "serve", "-c", configPath], {
    env: { PATH: "/usr/bin:/bin", HOME: folder, RUNTIME_DIRECTORY: folder },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let log = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => {
      log = (log + text).slice(-20_000);
    });
  const deadline = Date.now() + 30_000;
  while (!/^ready: /m.test(log)) {
    if (child.exitCode !== null || Date.now() > deadline) {
      await end(child);
      throw new Error(`starting the proxy: it is not ready:\n${log}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill("SIGTERM");
  const killer = setTimeout(() => child.kill("SIGKILL"), 10_000);
  await ended;
  clearTimeout(killer);
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address() as AddressInfo; // an object for a TCP server
  probe.close();
  await once(probe, "close");
  return port;
}
