import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Client } from "./clients.ts";

/** One line of a client's output. */
export type Answer = {
  readonly ready?: string;
  readonly arn?: string;
  readonly accessKeyId?: string;
  readonly secretAccessKey?: string;
  readonly token?: string;
  readonly region?: string;
  readonly error?: string;
  /** Why this SDK cannot do it. */
  readonly unsupported?: string;
};

export type Program = AsyncDisposable & {
  /** The name and version that the SDK reports. */
  readonly version: string;
  /**
   * `credentials`: with a new provider. `again`: with the same provider, forced to request from IMDS again.
   * `held`: what a service client would sign with now; the SDK decides whether to request. `region`.
   */
  ask(command: "credentials" | "again" | "held" | "region"): Promise<Answer>;
};

const startMs = 60_000;
/** Three attempts of the slowest SDK, with its pauses, take ten seconds. */
const answerMs = 25_000;

/**
 * Starts a client in its default settings: its environment has little more than the metadata service's
 * address.
 */
export async function startClient(
  client: Client,
  environment: Readonly<Record<string, string>>,
): Promise<Program> {
  const [file = "", ...args] = client.command;
  const child = spawn(file, args, {
    env: { PATH: "/usr/bin:/bin", LANG: "C.UTF-8", ...client.environment, ...environment },
    stdio: ["pipe", "pipe", "pipe"],
  });
  let errorOutput = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    errorOutput = (errorOutput + text).slice(-2_000);
  });
  child.on("error", (error) => {
    errorOutput += String(error);
  });
  // The client has died; the next answer reports that.
  child.stdin.on("error", () => undefined);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (ms: number): Promise<Answer> => {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), ms);
    });
    const line = await Promise.race([lines.next(), late]);
    clearTimeout(timer);
    if (line === undefined) return { error: `no answer within ${ms / 1000} s` };
    if (line.done === true) return { error: `it ended: ${errorOutput.trim() || `exit ${child.exitCode}`}` };
    try {
      return JSON.parse(line.value) as Answer; // our own programs write nothing else
    } catch {
      return { error: `not JSON: ${line.value.slice(0, 200)}` };
    }
  };
  const { ready, error } = await next(startMs);
  if (ready === undefined) {
    await end(child);
    throw new Error(`starting ${client.name}: ${error}`);
  }
  return {
    version: ready,
    ask: (command) => {
      child.stdin.write(`${command}\n`);
      return next(answerMs);
    },
    [Symbol.asyncDispose]: () => end(child),
  };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.stdin?.end();
  const killer = setTimeout(() => child.kill("SIGKILL"), 5_000);
  await ended;
  clearTimeout(killer);
}
