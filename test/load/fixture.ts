import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { account } from "../support/aws/account.ts";
import { startAws } from "../support/aws/aws.ts";
import { localProxy } from "../support/local-proxy.ts";
import { startProxy } from "../support/proxy.ts";
import { ask } from "../support/raw-http.ts";

export const noisy = { address: "127.0.0.1", name: "noisy" };
export const quiet = { address: "127.0.0.2", name: "quiet" };
export const credentialsPath = "/latest/meta-data/iam/security-credentials/load";

/**
 * A proxy in a process of its own, with two containers that have the same role, and with the default limits.
 */
export async function startProxyUnderLoad(config: Readonly<Record<string, unknown>> = {}) {
  const aws = await startAws({ imds: { generous: true, record: 0 } });
  const proxy = await startProxy(
    await localProxy(["--expose-gc", `--import=${new URL("collect-on-signal.ts", import.meta.url).href}`]),
    {
      metadataEndpoint: aws.imds.url,
      sts: { endpoint: aws.sts.url, region: account.region },
      defaultAlias: "load",
      aliasToARN: { load: `arn:aws:iam::${account.id}:role/load` },
      staticContainers: Object.fromEntries([noisy, quiet].map(({ address, name }) => [address, { name }])),
      dockerHost: "/nonexistent/docker.sock",
      ...config,
    },
  ).catch(async (error: unknown) => {
    await aws.stop();
    throw error;
  });
  const { port } = proxy;
  /** The header line with a new session token of a container. */
  const tokenLines = async ({ address }: { address: string }) => {
    const answer = await ask({ port, from: address }, "PUT", "/latest/api/token", [
      "X-aws-ec2-metadata-token-ttl-seconds: 21600",
    ]);
    return [`X-aws-ec2-metadata-token: ${answer.body}`];
  };
  return {
    aws,
    proxy,
    port,
    tokenLines,
    /**
     * Megabytes of the proxy after garbage collection: resident, and in use by JavaScript and its buffers.
     */
    async memoryCollected(): Promise<{ readonly resident: number; readonly inUse: number }> {
      for (let round = 0; round < 3; round++) {
        process.kill(proxy.pid(), "SIGUSR2");
        await sleep(500);
      }
      const text = await readFile(join(proxy.directory, "memory.json"), "utf8");
      const memory = JSON.parse(text) as NodeJS.MemoryUsage; // collect-on-signal.ts wrote it
      const megabytes = (bytes: number) => Math.round(bytes / 1e6);
      return { resident: megabytes(memory.rss), inUse: megabytes(memory.heapUsed + memory.external) };
    },
    async [Symbol.asyncDispose]() {
      await proxy[Symbol.asyncDispose]();
      await aws.stop();
    },
  };
}
