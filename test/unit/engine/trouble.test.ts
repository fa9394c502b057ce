import t from "tap";
import { engineTrouble } from "../../../src/engine/trouble.ts";

for (const [connected, lastError, says] of [
  [true, undefined, undefined],
  [true, "status 500", "answers with errors: status 500"],
  [false, "ENOENT", "not connected: ENOENT"],
  [false, undefined, "not connected: it has not answered yet"],
] as const)
  t.test(`an engine that is ${connected ? "" : "not "}connected, with the error ${lastError}`, async (t) => {
    t.equal(engineTrouble({ connected, lastError }), says);
  });
