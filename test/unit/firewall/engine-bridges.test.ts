import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import { EngineBridges, readEngineBridges, withEngineBridges } from "../../../src/firewall/engine-bridges.ts";
import { defaultSettings } from "../../../src/firewall/settings.ts";

const docker = "unix:///var/run/docker.sock";
const podman = "unix:///run/podman/podman.sock";
const fileIn = (t: { testdir(): string }) => join(t.testdir(), "bridges.json");

t.test("what one guard has found, the next one and `firewall apply` know", async (t) => {
  const path = fileIn(t);
  const { bridges, error } = await EngineBridges.open(path, [docker, podman]);
  t.equal(error, undefined);
  t.same(bridges.names(), []);
  await bridges.set(docker, ["shop0", "mybr0", "shop0"]);
  await bridges.set(podman, ["pod0"]);
  t.same(bridges.names(), ["mybr0", "pod0", "shop0"]);
  t.same(await readEngineBridges(path), { names: ["mybr0", "pod0", "shop0"], error: undefined });
  const next = await EngineBridges.open(path, [docker, podman]);
  t.same(next.bridges.names(), ["mybr0", "pod0", "shop0"]);
  await next.bridges.set(docker, []);
  t.same((await readEngineBridges(path)).names, ["pod0"]);
  t.same(await readdir(join(path, "..")), ["bridges.json"], "nothing else is left there");
});

t.test("an engine that is not followed any more has no bridges", async (t) => {
  const path = fileIn(t);
  const first = await EngineBridges.open(path, [docker, podman]);
  await first.bridges.set(podman, ["pod0"]);
  t.same((await EngineBridges.open(path, [docker])).bridges.names(), []);
});

t.test("names that are set at the same time are all in the file", async (t) => {
  const path = fileIn(t);
  const { bridges } = await EngineBridges.open(path, [docker, podman]);
  await Promise.all([bridges.set(docker, ["a0"]), bridges.set(podman, ["b0"]), bridges.set(docker, ["c0"])]);
  t.same((await readEngineBridges(path)).names, ["b0", "c0"]);
});

t.test("names that cannot be an interface's are left out, wherever they come from", async (t) => {
  const path = fileIn(t);
  const hostile = ['x" ; flush ruleset ; "', "br*", "lo", "", "a b", "abcdefghijklmnop", "ok0"];
  await writeFile(path, JSON.stringify({ [docker]: [...hostile, 7, null] }));
  t.same((await readEngineBridges(path)).names, ["ok0"]);
  const { bridges } = await EngineBridges.open(path, [docker]);
  await bridges.set(docker, [...hostile, "ok1"]);
  t.same(bridges.names(), ["ok0", "ok1"]);
  t.same(withEngineBridges(defaultSettings({ proxy: 1 }), hostile).interfaces.at(-1), "ok0");
});

for (const text of ["", "{", "[]", "null", '{"a":"b"}', '{"a":{"b":1}}'])
  t.test(`a file that says ${JSON.stringify(text)} is a problem, and no names`, async (t) => {
    const path = fileIn(t);
    await writeFile(path, text);
    const { names, error } = await readEngineBridges(path);
    t.same(names, []);
    t.match(error, /./);
    const { bridges } = await EngineBridges.open(path, [docker]);
    await bridges.set(docker, ["shop0"]);
    t.match(await readFile(path, "utf8"), "shop0", "it is written again");
  });

t.test("no file is no problem", async (t) => {
  t.same(await readEngineBridges(fileIn(t)), { names: [], error: undefined });
});

t.test(
  "where the file cannot be written, the names are known until the end, and it is an error",
  async (t) => {
    const path = fileIn(t);
    const { bridges } = await EngineBridges.open(join(path, "missing", "bridges.json"), [docker]);
    await t.rejects(bridges.set(docker, ["shop0"]), { message: /writing .*bridges.json/ });
    t.same(bridges.names(), ["shop0"]);
  },
);

t.test("bridges that a pattern covers are not named again", async (t) => {
  const settings = defaultSettings({ proxy: 18_000 });
  t.equal(withEngineBridges(settings, ["docker0", "br-0123456789ab"]), settings);
  t.same(withEngineBridges(settings, ["docker0", "shop0"]).interfaces, [...settings.interfaces, "shop0"]);
});
