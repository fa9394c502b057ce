import { execFile } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import t from "tap";
import { requestText, wire } from "../support/raw-http.ts";
import { askSteadily, milliseconds } from "./clients.ts";
import { credentialsPath, givenProxy, noisy, quiet } from "./given.ts";

t.setTimeout(120_000);

const run = promisify(execFile);
const seconds = 6;

/** Requests a second that wrk got answered, from the noisy container's address. */
async function wrk(
  port: number,
  connections: number,
  target: string,
  lines: readonly string[],
): Promise<number> {
  const { stdout } = await run(
    "wrk",
    [
      "-t1",
      `-c${connections}`,
      `-d${seconds}s`,
      ...lines.flatMap((line) => ["-H", line]),
      `http://127.0.0.1:${port}${target}`,
    ],
    { timeout: (seconds + 10) * 1_000 },
  );
  return Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1]);
}

/** Pipelined as deep as the connection takes it; answers are thrown away. Returns how many there were a second. */
async function pipelined(port: number, connections: number, text: string): Promise<number> {
  const batch = text.repeat(200);
  let bytes = 0;
  const wires = Array.from({ length: connections }, () => wire(port, noisy.address).socket);
  for (const socket of wires) {
    socket.removeAllListeners("data");
    socket.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    const pump = () => {
      while (!socket.destroyed && socket.write(batch)) if (socket.writableLength > 1_000_000) break;
    };
    socket.on("drain", pump);
    pump();
  }
  await sleep(seconds * 1_000);
  for (const socket of wires) socket.destroy();
  return bytes / seconds;
}

const wrkThere = await run("wrk", ["--version"]).then(
  () => true,
  (error: { code?: unknown }) => error.code !== "ENOENT",
);

for (const [what, config, flood] of [
  [
    "64 connections of wrk",
    {},
    (port: number, lines: readonly string[]) => wrk(port, 64, credentialsPath, lines),
  ],
  ["64 connections of wrk without a token", {}, (port: number) => wrk(port, 64, credentialsPath, [])],
  [
    "512 connections of wrk, paths that do not exist",
    {},
    (port: number, lines: readonly string[]) => wrk(port, 512, "/latest/meta-data/nothing/%zz", lines),
  ],
  [
    "64 connections of wrk over a limit of 1,000 a second",
    { limits: { requestsPerSecond: 1_000 } },
    (port: number, lines: readonly string[]) => wrk(port, 64, credentialsPath, lines),
  ],
] as const)
  t.test(
    `a flood of one container does not starve another: ${what}`,
    { timeout: 60_000, skip: wrkThere ? false : "wrk is not installed" },
    async (t) => {
      await using given = await givenProxy(config);
      const { port } = given;
      const lines = await given.tokenLines(quiet);
      const flooding = flood(port, await given.tokenLines(noisy));
      await sleep(300);
      const seen = await askSteadily(
        { port, from: quiet.address },
        credentialsPath,
        lines,
        20,
        (seconds - 1) * 1_000,
      );
      const rate = await flooding;
      t.comment(
        `measured beside ${what} (${Math.round(rate)} requests/s): ${seen.asked} requests, p50 ${milliseconds(seen.p50)}, p99 ${milliseconds(seen.p99)}, worst ${milliseconds(seen.worst)}`,
      );
      t.same(seen.failed, [], "each was answered 200");
      t.ok(seen.worst < 1_000, "within a second");
    },
  );

t.test(
  "a flood of one container does not starve another: pipelined without end",
  { timeout: 60_000 },
  async (t) => {
    await using given = await givenProxy();
    const { port } = given;
    const lines = await given.tokenLines(quiet);
    const flooding = pipelined(port, 64, requestText("GET", credentialsPath, await given.tokenLines(noisy)));
    await sleep(300);
    const seen = await askSteadily(
      { port, from: quiet.address },
      credentialsPath,
      lines,
      20,
      (seconds - 1) * 1_000,
    );
    const bytes = await flooding;
    t.comment(
      `measured beside pipelining (${(bytes / 1e6).toFixed(0)} MB/s of answers): ${seen.asked} requests, p50 ${milliseconds(seen.p50)}, p99 ${milliseconds(seen.p99)}, worst ${milliseconds(seen.worst)}`,
    );
    t.same(seen.failed, [], "each was answered 200");
    t.ok(seen.worst < 1_000, "within a second");
  },
);
