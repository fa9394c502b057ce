import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { RunningCommand, runCommand } from "../../../support/host/command.ts";
import { identify } from "../../../support/host/process-identity.ts";
import { waitFor } from "../../../support/host/wait.ts";

const isRunning = (pid: string) => identify(Number(pid)) !== undefined;

t.test("a command's exit code and both streams are returned as they are", async (t) => {
  t.same(await runCommand(["sh", "-c", "echo out; echo err >&2"]), {
    code: 0,
    stdout: "out\n",
    stderr: "err\n",
  });
});

t.test("a failure names the command, the exit code, the output and the caller", async (t) => {
  const error = await runCommand(["sh", "-c", "echo why >&2; exit 3"]).catch((error: Error) => error);
  t.match(error, { message: "running `sh -c echo why >&2; exit 3`: exit code 3\nwhy" });
  t.match(error, { stack: /command\.test\.ts/ });
  t.notMatch(error, { stack: /support\/host\/command\.ts/ });
});

t.test("with check: false an exit code is returned", async (t) => {
  t.match(await runCommand(["sh", "-c", "exit 3"], { check: false }), { code: 3 });
});

t.test("the end by a signal rejects, also with check: false", async (t) => {
  await t.rejects(runCommand(["sh", "-c", "kill -KILL $$"], { check: false }), {
    message: /ended by SIGKILL/,
  });
});

t.test("a program that does not exist rejects, also with check: false", async (t) => {
  await t.rejects(runCommand(["no-such-program"], { check: false }), { message: /ENOENT/ });
});

t.test("stdin is passed on and closed", async (t) => {
  t.match(await runCommand(["cat"], { stdin: "text\n" }), { stdout: "text\n" });
  t.match(await runCommand(["cat"]), { stdout: "" });
});

t.test("a command that does not read its stdin is no failure", async (t) => {
  t.match(await runCommand(["true"], { stdin: "x".repeat(1_000_000) }), { code: 0 });
});

t.test("env is the whole environment", async (t) => {
  const { stdout } = await runCommand(["/usr/bin/env"], { env: { ONLY: "this" } });
  // tap adds variables of its own.
  t.match(stdout, /^ONLY=this$/m);
  t.notMatch(stdout, /^PATH=/m);
});

t.test("the time limit kills the process group", async (t) => {
  const command = new RunningCommand(["sh", "-c", "sleep 60 & echo $!; wait"], { timeoutMs: 300 });
  await t.rejects(command.finished, { message: /no end after 300 ms\n\d+$/ });
  await waitFor(() => !isRunning(command.stdout), { what: "the child to end", timeoutMs: 5_000 });
});

t.test("the time limit does not wait for a descendant that left the group and holds the pipes", async (t) => {
  const started = performance.now();
  const command = new RunningCommand(["sh", "-c", "setsid sleep 30 & echo $!; wait"], { timeoutMs: 300 });
  await t.rejects(command.finished, { message: /no end after 300 ms/ });
  t.ok(performance.now() - started < 10_000);
  process.kill(Number(command.stdout));
});

t.test("output can be read while the command runs, and stop ends its process group", async (t) => {
  const command = new RunningCommand(["sh", "-c", "sleep 60 & echo $!; wait"]);
  const pid = await waitFor(() => command.stdout || undefined, { what: "the child's pid" });
  await command.stop();
  await waitFor(() => !isRunning(pid), { what: "the child to end", timeoutMs: 5_000 });
  await t.rejects(command.finished, { message: /ended by SIGTERM/ });
});

t.test("a command that ignores SIGTERM is killed by stop", async (t) => {
  const command = new RunningCommand(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"]);
  await waitFor(() => command.stdout || undefined, { what: "the trap to be set" });
  await command.stop("SIGTERM", 200);
  await t.rejects(command.finished, { message: /ended by SIGKILL/ });
});

t.test("a failure that nobody waits for does not end this process", async (t) => {
  new RunningCommand(["false"]);
  await sleep(200);
  t.pass("still here");
});
