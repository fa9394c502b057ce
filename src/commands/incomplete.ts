import type { Engines } from "./engines.ts";

/**
 * Why the directory may lack containers: the guard or an engine cannot be read, or an engine refuses to
 * describe a container. Undefined if it has all of them.
 */
export function whyIncomplete(engines: Pick<Engines, "guard" | "states" | "complete">): string | undefined {
  const guard = engines.guard?.state();
  if (guard?.connected === false)
    return `the guard at ${engines.guard?.path} is not connected: ${guard.lastError ?? "it has not answered yet"}`;
  for (const { host, connected, lastError } of engines.states()) {
    if (!connected) return `the engine ${host} cannot be read: ${lastError ?? "it has not answered yet"}`;
    if (lastError !== undefined) return `the engine ${host} refuses a query: ${lastError}`;
  }
  if (engines.complete()) return undefined;
  return guard === undefined ? "an engine cannot be read" : "the guard's list is not complete yet";
}
