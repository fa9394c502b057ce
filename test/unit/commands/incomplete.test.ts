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
    because: "the engine unix:///var/run/docker.sock cannot be read: connect EACCES /var/run/docker.sock",
  },
  {
    what: "an engine that has not answered yet",
    state: { connected: false },
    because: "the engine unix:///var/run/docker.sock cannot be read: it has not answered yet",
  },
  {
    what: "an engine that refuses to describe a container",
    state: { lastError: "inspecting abc: (HTTP code 500)" },
    because: "the engine unix:///var/run/docker.sock refuses a query: inspecting abc: (HTTP code 500)",
  },
])
  t.test(`${what} is named with its error`, async (t) => {
    t.equal(whyIncomplete(follows(state)), because);
  });

t.test("a list that is still being made is no reason to call an address unknown", async (t) => {
  t.equal(whyIncomplete(follows({}, false)), "an engine cannot be read");
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
    "the guard at /run/guard.sock is not connected: connect ENOENT",
  );
});
