import t from "tap";
import { follow, hold, isPassing, run as runCommand, whyNot } from "../../../src/firewall/command.ts";

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

t.test("a held process says its line, and ends when it is released", async (t) => {
  const holding = await hold("sh", ["-c", "echo ready; cat; exit 0"]);
  if (!holding.ok) throw new Error(holding.why);
  t.equal(holding.held.line, "ready");
  t.ok(process.kill(holding.held.pid, 0), "it runs");
  await holding.held.release();
  t.throws(() => process.kill(holding.held.pid, 0), /ESRCH/);
});

t.test("a process that ends before its line is no held process, and says why", async (t) => {
  t.same(await hold("sh", ["-c", "echo no >&2; exit 1"]), { ok: false, why: "sh: no" });
  t.same(await hold("no-such-command", []), { ok: false, why: "no-such-command: command not found" });
});

t.test("commands run in a folder that every user can read", async (t) => {
  t.match(await runCommand("pwd", []), { stdout: "/\n" });
});
