import t from "tap";
import { follow, isPassing, run as runCommand, whyNot } from "../../../src/firewall/command.ts";

t.test("the reason of a killed command comes before its own output", async (t) => {
  const outcome = await runCommand("sh", ["-c", "echo a warning >&2; kill -9 $$"]);
  t.ok(isPassing(outcome));
  t.match(whyNot("sh", outcome), "sh: Command was killed with SIGKILL");
});

t.test("what a command that goes on reports as an error is passed on as well", async (t) => {
  const lines: string[] = [];
  const { signal } = new AbortController();
  const script = "echo event; echo lost >&2; exit 3";
  t.equal(await follow("sh", ["-c", script], (line) => lines.push(line), signal), "sh: lost");
  t.same(lines.toSorted(), ["event", "lost"]);
});
