import type { FailureKind } from "../credentials/assume-role.ts";
import { Durations } from "../observability/durations.ts";

/** In seconds. From an answer out of memory to the longest wait for the real service. */
const requestBounds = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5];
/** In seconds, to the deadline of a call. */
const callBounds = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** How long requests and calls to STS took, for the metrics. The labels are few, whatever clients do. */
export class ProxyDurations {
  /** By the first digit of the status. */
  readonly requests = new Map([1, 2, 3, 4, 5].map((digit) => [digit, new Durations(requestBounds)]));
  /** By outcome. */
  readonly calls = new Map(
    (["ok", "refused", "throttled", "temporary"] as const).map((outcome) => [
      outcome,
      new Durations(callBounds),
    ]),
  );

  noteRequest(status: number, durationMs: number): void {
    this.requests.get(Math.floor(status / 100))?.note(durationMs);
  }

  noteCall(outcome: "ok" | FailureKind, durationMs: number): void {
    this.calls.get(outcome)?.note(durationMs);
  }
}
