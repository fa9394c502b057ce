import { readFile } from "node:fs/promises";
import { ask, fetchCredentials } from "../../scripts/demo/imds-client.ts";
import { table } from "../../scripts/demo/table.ts";
import { localProxy } from "../support/local-proxy.ts";
import { startProxy } from "../support/proxy.ts";
import { start } from "./programs.ts";
import { type Load, wrk } from "./wrk.ts";

/**
 * Throughput and latency of the proxy compared with a bare node:http server that sends the same bytes, in one
 * run. The results are ratios, because absolute figures depend on the machine. BENCH_SECONDS sets the length
 * of each measurement (default 4), BENCH_ROUNDS the rounds (3).
 */
const seconds = Number(process.env.BENCH_SECONDS ?? 4);
const rounds = Number(process.env.BENCH_ROUNDS ?? 3);
const list = "/latest/meta-data/iam/security-credentials/";
const leaf = "/latest/meta-data/instance-id";

async function main(): Promise<void> {
  await using aws = await start("../support/aws/main.ts", [
    "--imds",
    "127.0.0.1:0",
    "--sts",
    "127.0.0.1:0",
    "--control",
    "127.0.0.1:0",
    "--keep-alive",
    "--http-tokens",
    "optional",
  ]);
  const imds = String((aws.ready.imds as readonly string[])[0]); // the stand-in's ready line
  const config = (cacheSeconds: number) => ({
    metadataEndpoint: imds,
    sts: { endpoint: String(aws.ready.sts), region: "eu-west-1" },
    defaultAlias: "default",
    aliasToARN: { default: "arn:aws:iam::123456789012:role/Default" },
    staticContainers: { "127.0.0.1": { name: "bench" } },
    limits: { requestsPerSecond: 10_000_000 },
    // The rate limit of requests to the service is not measured here.
    passthrough: { cacheSeconds, requestsPerSecond: 1_000_000 },
    dockerHost: "/nonexistent/docker.sock",
  });
  await using proxy = await startProxy(await localProxy(), config(60));
  await using uncached = await startProxy(await localProxy(), config(0));
  const endpoint = { host: "127.0.0.1", port: proxy.port };
  const outcome = await fetchCredentials(endpoint, "127.0.0.1");
  if (outcome.kind === "nothing") throw new Error(`no credentials to measure: ${outcome.why}`);
  const token = async (port: number) =>
    (
      await ask({ host: "127.0.0.1", port }, "127.0.0.1", "PUT", "/latest/api/token", {
        "X-aws-ec2-metadata-token-ttl-seconds": "21600",
      })
    ).body;
  const header = { "X-aws-ec2-metadata-token": await token(proxy.port) };
  const uncachedHeader = { "X-aws-ec2-metadata-token": await token(uncached.port) };
  const document = await ask(endpoint, "127.0.0.1", "GET", `${list}${outcome.role}`, header);
  await using bare = await start("bare-server.ts", ["0", document.body]);
  const base = `http://127.0.0.1:${proxy.port}`;

  const subjects = [
    {
      name: "bare node:http, same bytes",
      url: `http://127.0.0.1:${bare.ready.port}/`,
      headers: header,
      beside: undefined,
    },
    {
      name: "warm credentials, token and identity checked",
      url: `${base}${list}${outcome.role}`,
      headers: header,
      beside: 0,
    },
    { name: "the IMDS stand-in itself", url: `${imds}${leaf}`, headers: {}, beside: undefined },
    { name: "pass-through, cached answers", url: `${base}${leaf}`, headers: header, beside: 0 },
    {
      name: "pass-through, each forwarded",
      url: `http://127.0.0.1:${uncached.port}${leaf}`,
      headers: uncachedHeader,
      beside: 2,
    },
  ];
  for (const connections of [1, 64]) {
    const loads = subjects.map((): Load[] => []);
    // Round by round, so that a slow moment of the machine affects all subjects.
    for (let round = 0; round < rounds; round += 1) {
      for (const [index, { url, headers }] of subjects.entries())
        loads[index]?.push(await wrk(url, connections, seconds, headers));
    }
    const middle = loads.map(median);
    const rows = subjects.map(({ name, beside }, index) => {
      const load = middle[index];
      const yardstick = beside === undefined ? undefined : middle[beside];
      if (load === undefined) return [name];
      const ratio =
        yardstick === undefined ? "" : (load.requestsPerSecond / yardstick.requestsPerSecond).toFixed(2);
      const against = beside === undefined ? "" : (subjects[beside]?.name ?? "");
      return [
        name,
        Math.round(load.requestsPerSecond).toLocaleString("en"),
        `${load.p50.toFixed(3)} ms`,
        `${load.p99.toFixed(3)} ms`,
        ratio,
        against,
      ];
    });
    say(
      `\n${connections} kept-alive ${connections === 1 ? "connection" : "connections"}, median of ${rounds} rounds of ${seconds} s\n`,
    );
    say(table(["", "requests/s", "p50", "p99", "ratio", "to"], rows));
  }
  say(`\nsockets in TIME_WAIT now: ${await timeWait()}`);
}

/** The load with the median throughput. */
function median(loads: readonly Load[]): Load | undefined {
  return loads.toSorted((a, b) => a.requestsPerSecond - b.requestsPerSecond)[Math.floor(loads.length / 2)];
}

/** Sockets in TIME_WAIT (state 06 in the kernel's table). */
async function timeWait(): Promise<number> {
  const text = await readFile("/proc/net/tcp", "utf8");
  return text.split("\n").filter((line) => line.trim().split(/\s+/)[3] === "06").length;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

await main();
