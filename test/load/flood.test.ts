import { execFile } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import t from "tap";
import { requestText } from "../support/raw-http.ts";
import { pipelined, wrk } from "./attacks.ts";
import { milliseconds, requestSteadily } from "./clients.ts";
import { credentialsPath, noisy, quiet, startProxyUnderLoad } from "./fixture.ts";

t.setTimeout(120_000);

const run = promisify(execFile);
const seconds = 6;

const hasWrk = await run("wrk", ["--version"]).then(
  () => true,
  (error: { code?: unknown }) => error.code !== "ENOENT",
);

for (const [what, config, flood] of [
  [
    "64 connections of wrk",
    {},
    (port: number, lines: readonly string[]) => wrk(port, 64, seconds, credentialsPath, lines),
  ],
  [
    "64 connections of wrk without a token",
    {},
    (port: number) => wrk(port, 64, seconds, credentialsPath, []),
  ],
  [
    "512 connections of wrk, missing paths",
    {},
    (port: number, lines: readonly string[]) =>
      wrk(port, 512, seconds, "/latest/meta-data/nothing/%zz", lines),
  ],
  [
    "64 connections of wrk over a limit of 1,000 a second",
    { limits: { requestsPerSecond: 1_000 } },
    (port: number, lines: readonly string[]) => wrk(port, 64, seconds, credentialsPath, lines),
  ],
] as const)
  t.test(
    `a flood from one container does not starve another: ${what}`,
    { timeout: 60_000, skip: hasWrk ? false : "wrk is not installed" },
    async (t) => {
      await using setup = await startProxyUnderLoad(config);
      const { port } = setup;
      const lines = await setup.tokenLines(quiet);
      const flooding = flood(port, await setup.tokenLines(noisy));
      await sleep(300);
      const seen = await requestSteadily(
        { port, from: quiet.address },
        credentialsPath,
        lines,
        20,
        (seconds - 1) * 1_000,
      );
      const rate = await flooding;
      t.comment(
        `measured beside ${what} (${Math.round(rate)} requests/s): ${seen.requests} requests, p50 ${milliseconds(seen.p50)}, p99 ${milliseconds(seen.p99)}, worst ${milliseconds(seen.worst)}`,
      );
      t.same(seen.failed, [], "every answer was 200");
      // The figures are in the comment above: a busy machine is slow without any attack.
      t.ok(seen.worst < 5_000, "every answer was in time");
    },
  );

for (const [what, connections, text] of [
  ["16 requests at a time on 64 connections", 64, "credentials"],
  ["endless, on 64 connections", 64, requestText("GET", "/").repeat(400)],
  ["endless minimal requests on 512 connections", 512, "GET / HTTP/1.1\r\nHost:a\r\n\r\n".repeat(2_500)],
] as const)
  t.test(
    `a flood from one container does not starve another: pipelined, ${what}`,
    { timeout: 60_000 },
    async (t) => {
      await using setup = await startProxyUnderLoad();
      const { port } = setup;
      const lines = await setup.tokenLines(quiet);
      const request = requestText("GET", credentialsPath, await setup.tokenLines(noisy));
      const flooding = pipelined(
        port,
        connections,
        seconds,
        text === "credentials" ? request.repeat(16) : text,
      );
      await sleep(1_000);
      const seen = await requestSteadily(
        { port, from: quiet.address },
        credentialsPath,
        lines,
        20,
        (seconds - 2) * 1_000,
      );
      t.comment(
        `measured beside pipelining ${what} (${await flooding}): ${seen.requests} requests, p50 ${milliseconds(seen.p50)}, p99 ${milliseconds(seen.p99)}, worst ${milliseconds(seen.worst)}`,
      );
      t.same(seen.failed, [], "every answer was 200");
      // The figures are in the comment above: a busy machine is slow without any attack.
      t.ok(seen.worst < 5_000, "every answer was in time");
    },
  );
