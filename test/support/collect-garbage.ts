import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Runs V8's garbage collector, so that a test measures only the memory in use. */
export function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  const gc: unknown = runInNewContext("gc");
  if (typeof gc !== "function") throw new Error("V8 does not expose its garbage collector");
  gc();
}
