import t from "tap";
import { followGuard } from "../../../src/commands/follow-guard.ts";
import { Directory } from "../../../src/containers/directory.ts";
import { container, GivenGuard, owner, until } from "../guard/fixture.ts";

const log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
const clocks = { now: () => performance.now(), wallNow: Date.now };

t.test("a guard stands for its engines: their states, and whether every container is known", async (t) => {
  await using guard = await GivenGuard.listen(container("a", 2), container("b", 3));
  const directory = new Directory();
  const engines = followGuard(guard.path, { ...clocks, directory, log });
  await engines.listed;
  t.match(engines.states(), [{ host: owner, connected: true, containers: 2 }]);
  t.equal(engines.complete(), true);
  t.match(engines.guard.state(), { connected: true, version: "1.1.0" });
  t.equal(engines.guard.locks.protectionOf("a".repeat(64)).locked, true);
  await engines.refresh();
  t.equal(guard.refreshes, 2);

  await guard.guard.close();
  await until(() => !engines.guard.state().connected);
  t.equal(engines.complete(), false);
  t.match(engines.states(), [{ connected: false, lastError: /the guard/, containers: 2 }]);
  await engines.stop();
  t.equal(directory.containers().length, 2, "what was known stays");
});

t.test("without a guard the first list is waited for, and not for long", async (t) => {
  const began = performance.now();
  const engines = followGuard("/nonexistent/containers.sock", { ...clocks, directory: new Directory(), log });
  await engines.listed;
  t.ok(performance.now() - began < 6_000);
  t.same(engines.states(), []);
  t.equal(engines.complete(), false);
  await engines.stop();
});
