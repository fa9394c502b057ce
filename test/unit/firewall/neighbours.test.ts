import t from "tap";
import type { Outcome } from "../../../src/firewall/command.ts";
import { forgetNeighbours } from "../../../src/firewall/neighbours.ts";

const entry = { address: "172.17.0.2", bridge: "docker0", macs: ["02:42:ac:11:00:02"] };

/** @param believed what `ip -j neigh show` prints after that */
async function forget(outcome: Outcome, entries = [entry], believed: readonly object[] = []) {
  const inputs: string[] = [];
  const remaining = await forgetNeighbours(async (command, args, input = "") => {
    if (args.includes("show")) return { ...ran, stdout: JSON.stringify(believed) };
    inputs.push(`${[command, ...args].join(" ")} <<< ${input}`);
    return outcome;
  }, entries);
  return { inputs, remaining };
}
const failed = (stderr: string): Outcome => ({ kind: "ran", exitCode: 2, stdout: "", stderr });
const ran = { kind: "ran", exitCode: 0, stdout: "", stderr: "" } as const;

t.test("all entries are removed by one command", async (t) => {
  const { inputs } = await forget(ran, [entry, { ...entry, address: "fd00::2", bridge: "br-0123456789ab" }]);
  t.same(inputs, [
    "ip -force -batch - <<< neigh flush to 172.17.0.2 dev docker0\nneigh flush to fd00::2 dev br-0123456789ab\n",
  ]);
});

t.test("without entries, nothing is run", async (t) => t.same((await forget(ran, [])).inputs, []));

for (const bridge of ["a b", 'a"', "a#", "a'b", "a\\b", "", "a;b", "br0\nneigh"])
  t.test(`a bridge called ${JSON.stringify(bridge)} does not reach ip's parser`, async (t) => {
    t.same((await forget(ran, [{ ...entry, bridge }])).inputs, []);
  });

t.test("a bridge that is gone is no failure", async (t) => {
  await t.resolves(forget(failed('Cannot find device "docker0"\nCommand failed -:1\n')));
});

t.test("an entry that another hardware address still has is returned", async (t) => {
  const [dst, dev] = ["172.17.0.2", "docker0"];
  const remaining = async (...believed: readonly object[]) =>
    (await forget(ran, [entry], believed)).remaining;
  t.same(await remaining({ dst, dev, lladdr: "02:42:ac:11:00:03" }), [entry]);
  t.same(await remaining({ dst, dev, lladdr: "02:42:ac:11:00:02" }), []);
  t.same(await remaining({ dst, dev, state: ["FAILED"] }), [], "being resolved");
  t.same(await remaining({ dst, dev: "docker1", lladdr: "02:42:ac:11:00:03" }), []);
  t.same(await remaining({ dst: "172.17.0.3", dev, lladdr: "02:42:ac:11:00:03" }), []);
});

t.test("any other failure is one, because the entry may still be there", async (t) => {
  await t.rejects(forget(failed("RTNETLINK answers: Operation not permitted\nCommand failed -:1\n")), {
    message: /removing neighbour entries: ip: RTNETLINK answers: Operation not permitted/,
  });
  await t.rejects(forget({ kind: "missing" }), { message: /command not found/ });
});
