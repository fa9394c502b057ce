import { setTimeout as delay } from "node:timers/promises";
import type { Result, Stage } from "./cases.ts";
import type { Client } from "./clients.ts";
import { granted } from "./granted.ts";
import type { Answer, Program } from "./program.ts";

/**
 * The lifetime of this case's sessions. The proxy renews them from a fifth of it on, so it has newer ones
 * when they expire. Every SDK considers them nearly expired from the start.
 */
export const shortSessionSeconds = 40;
const askEveryMs = 5_000;

/**
 * A process holds credentials until they have expired. After that it must sign with other keys, and STS must
 * accept them (it refuses expired ones).
 */
export async function renewal(program: Program, client: Client, stage: Stage): Promise<Result> {
  const { renewsLateBySeconds: lateBySeconds } = client;
  const held = async (): Promise<{ readonly keyId: string; readonly result: Result }> => {
    const answer = await program.ask("held");
    const result = await granted(answer, stage);
    return { keyId: keyIdOf(answer, client, stage), result };
  };
  const first = await held();
  if (first.result.verdict !== "ok") return first.result;
  await delay((shortSessionSeconds + 2) * 1000);
  const deadline = Date.now() + ((lateBySeconds ?? 0) + 30) * 1000;
  let next = await held();
  while (lateBySeconds !== undefined && next.keyId === first.keyId && Date.now() < deadline) {
    await delay(askEveryMs);
    next = await held();
  }
  if (next.result.verdict !== "ok") return next.result;
  if (next.keyId === first.keyId || next.keyId === "")
    return { verdict: "wrong", note: `it signs with ${next.keyId} after ${first.keyId} has expired` };
  return lateBySeconds === undefined ? next.result : { verdict: "late", note: "" };
}

/** The access key id of an answer or, if it has none, of the client's last call to STS. */
function keyIdOf({ accessKeyId }: Answer, { userAgent }: Client, { aws }: Stage): string {
  if (accessKeyId !== undefined) return accessKeyId;
  const calls = aws.sts.calls.list();
  const last = calls.findLast((call) => userAgent !== undefined && call.userAgent.startsWith(userAgent));
  return last?.accessKeyId ?? "";
}
