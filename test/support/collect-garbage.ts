import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Runs V8's collector, so that what a test measures of the heap is what is really held. */
export function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  const gc: unknown = runInNewContext("gc");
  if (typeof gc !== "function") throw new Error("V8 does not give its collector away");
  gc();
}
