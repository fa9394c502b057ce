import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Aws } from "../support/aws/aws.ts";
import type { LocalProxy } from "../support/local-proxy.ts";
import type { Client } from "./clients.ts";
import { granted } from "./granted.ts";
import { type Answer, type Program, startClient } from "./program.ts";
import { renewal } from "./renewal.ts";

/**
 * `second`: right on the second request. `late`: right, but later than it should be. `its own`: wrong, by a
 * fault of the SDK that it has on EC2 too.
 */
export type Result = {
  readonly verdict: "ok" | "second" | "late" | "not asked" | "its own" | "wrong";
  readonly note: string;
};

/**
 * Proxies with one container each: with a role, with a role of short sessions, without a role, with a role
 * that IAM refuses, with a role for which STS fails.
 */
export type Stage = {
  readonly aws: Aws;
  readonly role: LocalProxy;
  /** The role's sessions end after `shortSessionSeconds`. */
  readonly short: LocalProxy;
  readonly none: LocalProxy;
  readonly refused: LocalProxy;
  readonly down: LocalProxy;
  readonly arn: RegExp;
  readonly downRole: string;
};

export const titles = [
  "credentials",
  "region",
  "renewal",
  "restart, same key",
  "restart, new key",
  "no role",
  "IAM refuses",
  "STS fails",
  "STS is back",
] as const;
export type Title = (typeof titles)[number];

export type Report = {
  readonly client: Client;
  readonly version: string;
  readonly results: ReadonlyMap<Title, Result>;
};

/**
 * Runs one client through all cases except `renewal`, which waits for an expiry and runs at the same time.
 */
export async function examine(client: Client, stage: Stage): Promise<Report> {
  const results = new Map<Title, Result>();
  const start = (proxy: LocalProxy) => startFor(client, proxy, stage);

  await using own = await start(stage.role);
  const first = await own.ask("credentials");
  results.set("credentials", await granted(first, stage));
  results.set("region", regionResult(await own.ask("region")));
  for (const [title, keepKey] of [
    ["restart, same key", true],
    ["restart, new key", false],
  ] as const) {
    await restart(stage.role, { keepKey });
    // Some SDKs learn from a 401 that their token is invalid, and request a new one the next time. And a
    // proxy that has just started may answer 503 while it waits for STS.
    const afterwards = await granted(await own.ask("again"), stage);
    const second = afterwards.verdict === "ok" ? afterwards : await granted(await own.ask("again"), stage);
    const late = second !== afterwards && second.verdict === "ok";
    results.set(title, late ? { verdict: "second", note: afterwards.note } : second);
  }

  results.set("no role", await denied(await start(stage.none)));
  results.set("IAM refuses", await denied(await start(stage.refused)));

  stage.aws.sts.faults.setFor(stage.downRole, { status500: true });
  await restart(stage.down, { keepKey: true });
  await using waiting = await start(stage.down);
  results.set("STS fails", refusedResult(await waiting.ask("credentials")));
  stage.aws.sts.faults.setFor(stage.downRole, {});
  // The proxy recovers within seconds. A client retries by itself, or when its user does.
  let back: Answer = {};
  for (const deadline = Date.now() + 20_000; Date.now() < deadline; ) {
    back = await waiting.ask("credentials");
    if (back.error === undefined) break;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  results.set("STS is back", await granted(back, stage));
  for (const [title, result] of results) {
    const why = client.known?.[title];
    if (result.verdict === "wrong" && why !== undefined)
      results.set(title, { verdict: "its own", note: why });
  }
  return { client, version: own.version, results };
}

/** Runs the case `renewal`. */
export async function examineRenewal(client: Client, stage: Stage): Promise<Result> {
  await using program = await startFor(client, stage.short, stage);
  // `await`: the program ends with this block.
  return await renewal(program, client, stage);
}

function startFor(client: Client, proxy: LocalProxy, { aws }: Stage): Promise<Program> {
  return startClient(client, {
    AWS_EC2_METADATA_SERVICE_ENDPOINT: proxy.endpoint + (client.ending ?? ""),
    STS_ENDPOINT: aws.sts.url,
    HOME: "/nonexistent",
  });
}

/** Restarts the proxy with the same key for session tokens or, as after a reboot, with a new one. */
async function restart(proxy: LocalProxy, { keepKey }: { readonly keepKey: boolean }): Promise<void> {
  await proxy.stop();
  if (!keepKey) await rm(join(proxy.directory, "token-key"));
  await proxy.start();
}

function regionResult({ region, error, unsupported }: Answer): Result {
  if (unsupported !== undefined) return { verdict: "not asked", note: unsupported };
  if (region === "eu-west-1") return { verdict: "ok", note: "" };
  return { verdict: "wrong", note: error ?? `${region}` };
}

async function denied(program: Program): Promise<Result> {
  await using one = program;
  return refusedResult(await one.ask("credentials"));
}

/** Ok if the client gives up without credentials. The note is the error that the user sees. */
function refusedResult(answer: Answer): Result {
  if (answer.error === undefined) return { verdict: "wrong", note: "it got credentials" };
  const hung = /^no answer within|^it ended/.test(answer.error);
  return { verdict: hung ? "wrong" : "ok", note: answer.error };
}
