import type { EngineState } from "./connection.ts";

/**
 * What is wrong with an engine, in the words of `status`, `check`, refusals and the log; undefined if nothing
 * is: then its containers are all known.
 */
export function engineTrouble({
  connected,
  lastError,
}: Pick<EngineState, "connected" | "lastError">): string | undefined {
  if (!connected) return `not connected: ${lastError ?? "it has not answered yet"}`;
  return lastError === undefined ? undefined : `answers with errors: ${lastError}`;
}
