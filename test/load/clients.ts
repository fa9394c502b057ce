import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { requestText, wire } from "../support/raw-http.ts";

/** What a container that sends requests at a steady rate experienced. Times in milliseconds. */
export type Experience = {
  readonly requests: number;
  /** Statuses other than 200, or errors. */
  readonly failed: readonly string[];
  readonly p50: number;
  readonly p99: number;
  readonly worst: number;
};

/**
 * Sends `perSecond` requests for `ms` milliseconds, without waiting for answers, as independent clients do.
 * Every other request is on a new connection, because SDKs differ in that.
 */
export async function requestSteadily(
  at: { readonly port: number; readonly from: string },
  target: string,
  lines: readonly string[],
  perSecond: number,
  ms: number,
): Promise<Experience> {
  const latencies: number[] = [];
  const failed: string[] = [];
  const pending: Promise<void>[] = [];
  const kept = wire(at.port, at.from);
  let turn: Promise<unknown> = Promise.resolve();
  const once = async (connection: ReturnType<typeof wire>, since: number) => {
    connection.write(requestText("GET", target, lines));
    const answer = await connection.answer().catch((error: unknown) => String(error));
    const status = typeof answer === "string" ? answer : (answer?.status ?? "closed");
    if (status === 200) latencies.push(performance.now() - since);
    else failed.push(String(status));
  };
  const started = performance.now();
  for (let nth = 0; performance.now() - started < ms; nth++) {
    const since = performance.now();
    if (nth % 2 === 0) {
      turn = turn.then(() => once(kept, since));
      pending.push(turn as Promise<void>); // a chain of once()
    } else {
      pending.push(
        (async () => {
          using fresh = wire(at.port, at.from);
          await once(fresh, since);
        })(),
      );
    }
    await sleep(Math.max(0, started + ((nth + 1) * 1000) / perSecond - performance.now()));
  }
  await Promise.all(pending);
  kept.socket.destroy();
  latencies.sort((a, b) => a - b);
  const at99 = (share: number) =>
    latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? Number.NaN;
  return {
    requests: pending.length,
    failed,
    p50: at99(0.5),
    p99: at99(0.99),
    worst: latencies.at(-1) ?? Number.NaN,
  };
}

export const milliseconds = (value: number) => `${value.toFixed(1)} ms`;
