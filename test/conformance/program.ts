import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Client } from "./clients.ts";

/** What a client says on a line of its own. */
export type Answer = {
  readonly ready?: string;
  readonly arn?: string;
  readonly accessKeyId?: string;
  readonly secretAccessKey?: string;
  readonly token?: string;
  readonly region?: string;
  readonly error?: string;
  /** Not a thing that this SDK does. */
  readonly unsupported?: string;
};

export type Program = AsyncDisposable & {
  /** The SDK's name and version in its own words. */
  readonly version: string;
  /**
   * `credentials`: as if for the first time. `again`: the same provider, told to ask IMDS once more. `held`: what a service's client would sign
   * with now; the SDK decides whether to ask. `region`.
   */
  ask(command: "credentials" | "again" | "held" | "region"): Promise<Answer>;
};

const startMs = 60_000;
/** Three attempts of the slowest, with its pauses, take ten. */
const answerMs = 25_000;

/** Starts a client with nothing in its environment but the metadata service's address: default settings. */
export async function startClient(
  client: Client,
  environment: Readonly<Record<string, string>>,
): Promise<Program> {
  const [file = "", ...args] = client.command;
  const child = spawn(file, args, {
    env: { PATH: "/usr/bin:/bin", LANG: "C.UTF-8", ...client.environment, ...environment },
    stdio: ["pipe", "pipe", "pipe"],
  });
  let complaint = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    complaint = (complaint + text).slice(-2_000);
  });
  child.on("error", (error) => {
    complaint += String(error);
  });
  // It has died: the next answer says so.
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
    if (line.done === true) return { error: `it ended: ${complaint.trim() || `exit ${child.exitCode}`}` };
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
