import t from "tap";
import { coverBridges } from "../../../src/commands/guard-bridges.ts";
import { EngineBridges } from "../../../src/firewall/engine-bridges.ts";

const docker = "unix:///var/run/docker.sock";

async function fixture(path: string | undefined, cover: () => Promise<void> = async () => {}) {
  const { bridges } = await EngineBridges.open(path, [docker]);
  const done: string[] = [];
  const repair = {
    cover: () => {
      done.push(`cover ${bridges.names().join(" ")}`);
      return cover();
    },
    request: () => void done.push("check"),
  };
  const record = (_fields: object, text: string) => void done.push(text);
  const log = { debug() {}, info() {}, warn: record, error: record };
  return {
    done,
    set: (...names: readonly string[]) => coverBridges({ bridges, repair, log }, docker, names),
  };
}

t.test("a new name is covered, and one that is there already is not again", async (t) => {
  const { done, set } = await fixture(undefined);
  await set("shop0");
  await set("shop0");
  await set();
  t.same(done, ["cover shop0", "cover "]);
});

t.test("a name that cannot be kept is covered all the same", async (t) => {
  const { done, set } = await fixture(`${t.testdir()}/missing/bridges.json`);
  await set("shop0");
  t.same(done, ["the names of bridges are not kept for the next boot", "cover shop0"]);
});

t.test("if that fails, the rules are checked", async (t) => {
  const { done, set } = await fixture(undefined, () => Promise.reject(new Error("no")));
  await set("shop0");
  t.same(done, ["cover shop0", "covering a bridge failed", "check"]);
});
