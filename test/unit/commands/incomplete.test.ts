import t from "tap";
import { whyIncomplete } from "../../../src/commands/incomplete.ts";
import type { EngineState } from "../../../src/engine/connection.ts";

const engine: EngineState = {
  host: "unix:///var/run/docker.sock",
  connected: true,
  since: 0,
  lastError: undefined,
  apiVersion: "1.45",
  engine: "Docker 26.1",
  containers: 1,
};
const follows = (state: Partial<EngineState>, complete = true) => ({
  states: () => [engine, { ...engine, ...state }],
  complete: () => complete,
});

t.test("nothing is missing while every engine is followed", async (t) => {
  t.equal(whyIncomplete(follows({})), undefined);
});

for (const { what, state, because } of [
  {
    what: "an engine that may not be opened",
    state: { connected: false, lastError: "connect EACCES /var/run/docker.sock" },
    because: "engine unix:///var/run/docker.sock not connected: connect EACCES /var/run/docker.sock",
  },
  {
    what: "an engine that has not answered yet",
    state: { connected: false },
    because: "engine unix:///var/run/docker.sock not connected: it has not answered yet",
  },
  {
    what: "an engine that refuses to describe a container",
    state: { lastError: "inspecting abc: (HTTP code 500)" },
    because: "engine unix:///var/run/docker.sock answers with errors: inspecting abc: (HTTP code 500)",
  },
])
  t.test(`${what} is named with its error`, async (t) => {
    t.equal(whyIncomplete(follows(state)), because);
  });

t.test("a list that is still being made is no reason to call an address unknown", async (t) => {
  t.equal(whyIncomplete(follows({}, false)), "the containers of an engine are not all listed yet");
});

t.test("without the guard, the guard is named and not the engines that it follows", async (t) => {
  const state = {
    connected: false,
    since: 0,
    lastError: "connect ENOENT",
    version: undefined,
    host: undefined,
    engines: [],
  };
  const locks = { protectionOf: () => ({ locked: false, reason: "" }), news: async () => "timeout" as const };
  const guard = { path: "/run/guard.sock", state: () => state, locks };
  t.equal(
    whyIncomplete({ ...follows({ connected: false }), guard }),
    "guard /run/guard.sock not connected: connect ENOENT",
  );
});
