import t from "tap";
import { isPassing, run as runCommand, whyNot } from "../../../src/firewall/command.ts";

t.test("the reason of a killed command comes before its own output", async (t) => {
  const outcome = await runCommand("sh", ["-c", "echo a warning >&2; kill -9 $$"]);
  t.ok(isPassing(outcome));
  t.match(whyNot("sh", outcome), "sh: Command was killed with SIGKILL");
});
