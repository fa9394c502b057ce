import { execFile } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import t from "tap";
import { requestText } from "../support/raw-http.ts";
import { pipelined, wrk } from "./attacks.ts";
import { askSteadily, milliseconds } from "./clients.ts";
import { credentialsPath, givenProxy, noisy, quiet } from "./fixture.ts";

t.setTimeout(120_000);

const run = promisify(execFile);
const seconds = 6;

const wrkThere = await run("wrk", ["--version"]).then(
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
    "512 connections of wrk, paths that do not exist",
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
      t.ok(seen.worst < 5_000, "in time; how much, is above: a busy machine is slow without any attack");
    },
  );

for (const [what, connections, text] of [
  ["16 at a time on 64 connections", 64, "credentials"],
  ["endless, on 64 connections", 64, requestText("GET", "/").repeat(400)],
  [
    "endless and as small as can be, on 512 connections",
    512,
    "GET / HTTP/1.1\r\nHost:a\r\n\r\n".repeat(2_500),
  ],
] as const)
  t.test(
    `a flood of one container does not starve another: pipelined, ${what}`,
    { timeout: 60_000 },
    async (t) => {
      await using given = await givenProxy();
      const { port } = given;
      const lines = await given.tokenLines(quiet);
      const request = requestText("GET", credentialsPath, await given.tokenLines(noisy));
      const flooding = pipelined(
        port,
        connections,
        seconds,
        text === "credentials" ? request.repeat(16) : text,
      );
      await sleep(1_000);
      const seen = await askSteadily(
        { port, from: quiet.address },
        credentialsPath,
        lines,
        20,
        (seconds - 2) * 1_000,
      );
      t.comment(
        `measured beside pipelining ${what} (${await flooding}): ${seen.asked} requests, p50 ${milliseconds(seen.p50)}, p99 ${milliseconds(seen.p99)}, worst ${milliseconds(seen.worst)}`,
      );
      t.same(seen.failed, [], "each was answered 200");
      t.ok(seen.worst < 5_000, "in time; how much, is above: a busy machine is slow without any attack");
    },
  );
