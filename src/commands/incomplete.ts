import { engineTrouble } from "../engine/trouble.ts";
import type { Engines } from "./engines.ts";

/**
 * Why the directory may lack containers: the guard or an engine cannot be read, or an engine refuses to
 * describe a container. Undefined if it has all of them.
 */
export function whyIncomplete(engines: Pick<Engines, "guard" | "states" | "complete">): string | undefined {
  const guard = engines.guard?.state();
  if (guard?.connected === false)
    return `guard ${engines.guard?.path} not connected: ${guard.lastError ?? "it has not answered yet"}`;
  for (const engine of engines.states()) {
    const trouble = engineTrouble(engine);
    if (trouble !== undefined) return `engine ${engine.host} ${trouble}`;
  }
  if (engines.complete()) return undefined;
  return guard === undefined
    ? "the containers of an engine are not all listed yet"
    : "the guard's list is not complete yet";
}
