import t from "tap";
import { parseNotLearning, stopLinkLocalLearning } from "../../../src/firewall/bridge-learning.ts";
import type { Outcome } from "../../../src/firewall/command.ts";

const bridge = (ifname: string, option: unknown) => ({
  ifname,
  linkinfo: { info_kind: "bridge", info_data: { no_linklocal_learn: option } },
});

t.test("a bridge does not learn only if ip says so", async (t) => {
  const listing = [bridge("a0", 1), bridge("b0", 0), bridge("c0", "1"), { ifname: "d0" }, null, 1];
  t.same([...parseNotLearning(JSON.stringify(listing))], ["a0"]);
  t.same([...parseNotLearning("")], []);
  t.throws(() => parseNotLearning("{}"), /ip printed no list/);
});

/** A host whose bridges take the option if their name is not in `stubborn`. */
function host(bridges: Record<string, number>, stubborn: readonly string[] = []) {
  const inputs: string[] = [];
  const run = async (_command: string, args: readonly string[], input = ""): Promise<Outcome> => {
    if (args[0] !== "-force") {
      const stdout = JSON.stringify(Object.entries(bridges).map(([name, value]) => bridge(name, value)));
      return { kind: "ran", exitCode: 0, stdout, stderr: "" };
    }
    inputs.push(input);
    for (const [, name = ""] of input.matchAll(/dev (\S+)/g)) if (!stubborn.includes(name)) bridges[name] = 1;
    return { kind: "ran", exitCode: stubborn.length === 0 ? 0 : 1, stdout: "", stderr: "" };
  };
  return { run, inputs };
}

t.test("bridges that learn are changed in one call, and others are left alone", async (t) => {
  const { run, inputs } = host({ a0: 0, b0: 1, c0: 0, other0: 0 });
  t.same([...(await stopLinkLocalLearning(run, new Set(["a0", "b0", "c0"])))], []);
  t.same(inputs, [
    "link set dev a0 type bridge no_linklocal_learn 1\nlink set dev c0 type bridge no_linklocal_learn 1\n",
  ]);
  t.same([...(await stopLinkLocalLearning(run, new Set(["a0", "b0"])))], []);
  t.equal(inputs.length, 1, "nothing to change");
  t.same([...(await stopLinkLocalLearning(run, new Set()))], []);
});

t.test("bridges that go on learning are named, and so is what is no bridge", async (t) => {
  const { run, inputs } = host({ a0: 0, b0: 0 }, ["b0", "ovs-system"]);
  const wanted = new Set(["a0", "b0", "ovs-system", "a b"]);
  t.same([...(await stopLinkLocalLearning(run, wanted))], ["b0", "ovs-system", "a b"]);
  t.notMatch(inputs[0], /a b/, "ip would read another command in it");
});

t.test("bridges that cannot be read are an error", async (t) => {
  const run = async (): Promise<Outcome> => ({ kind: "ran", exitCode: 1, stdout: "", stderr: "no" });
  await t.rejects(stopLinkLocalLearning(run, new Set(["a0"])), /reading the host's bridges/);
});
