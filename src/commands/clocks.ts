import { uptime } from "node:os";
import { type Clocks, steadyClock } from "../credentials/clock.ts";

/** This host's clocks. Commands pass them on; nothing below reads a clock itself. */
export function hostClocks(): Clocks {
  const monotonic = () => performance.now();
  return {
    now: steadyClock({ start: Date.now(), monotonic, sinceBoot: uptime }),
    wallNow: Date.now,
  };
}
