import t from "tap";
import type { Outcome } from "../../../src/firewall/command.ts";
import { forgetNeighbours } from "../../../src/firewall/neighbours.ts";

const entry = { address: "172.17.0.2", bridge: "docker0" };

async function forget(outcome: Outcome, entries = [entry]) {
  const inputs: string[] = [];
  await forgetNeighbours(async (command, args, input = "") => {
    inputs.push(`${[command, ...args].join(" ")} <<< ${input}`);
    return outcome;
  }, entries);
  return inputs;
}
const failed = (stderr: string): Outcome => ({ kind: "ran", exitCode: 2, stdout: "", stderr });
const ran: Outcome = { kind: "ran", exitCode: 0, stdout: "", stderr: "" };

t.test("all entries are removed by one command", async (t) => {
  t.same(await forget(ran, [entry, { address: "fd00::2", bridge: "br-0123456789ab" }]), [
    "ip -force -batch - <<< neigh del 172.17.0.2 dev docker0\nneigh del fd00::2 dev br-0123456789ab\n",
  ]);
});

t.test("without entries, nothing is run", async (t) => t.same(await forget(ran, []), []));

for (const bridge of ["a b", 'a"', "a#", "a'b", "a\\b", "", "a;b", "br0\nneigh"])
  t.test(`a bridge called ${JSON.stringify(bridge)} does not reach ip's parser`, async (t) => {
    t.same(await forget(ran, [{ address: "172.17.0.2", bridge }]), []);
  });

for (const stderr of [
  "RTNETLINK answers: No such file or directory\nCommand failed -:1\n",
  'Cannot find device "docker0"\nCommand failed -:1\n',
])
  t.test(`an entry that is not there is no failure: ${stderr.split("\n")[0]}`, async (t) => {
    await t.resolves(forget(failed(stderr)));
  });

t.test("any other failure is one, because the entry may still be there", async (t) => {
  await t.rejects(forget(failed("RTNETLINK answers: Operation not permitted\nCommand failed -:1\n")), {
    message: /removing neighbour entries: ip: RTNETLINK answers: Operation not permitted/,
  });
  await t.rejects(forget({ kind: "missing" }), { message: /command not found/ });
});
