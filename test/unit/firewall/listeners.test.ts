import { createServer } from "node:net";
import t from "tap";
import type { Outcome, Run } from "../../../src/firewall/command.ts";
import { run } from "../../../src/firewall/command.ts";
import { listenersOf, notTheProxy, runsProxy } from "../../../src/firewall/listeners.ts";

const says =
  (outcome: Outcome): Run =>
  async () =>
    outcome;
const prints = (stdout: string) => says({ kind: "ran", exitCode: 0, stdout, stderr: "" });

t.test("the processes are read from the output of ss, also with odd names", async (t) => {
  const line = 'LISTEN 0 4096 *:18000 *:* users:(("a \\"b\\"",pid=12,fd=3),("systemd",pid=1,fd=40))\n';
  t.same(await listenersOf(prints(line), 18_000), {
    kind: "somebody",
    processes: [
      { name: 'a \\"b\\"', pid: 12 },
      { name: "systemd", pid: 1 },
    ],
  });
  t.same(await listenersOf(prints(""), 18_000), { kind: "nobody", processes: [] });
  t.same(await listenersOf(says({ kind: "missing" }), 18_000), { kind: "unknown", processes: [] });
});

t.test("this process is found by the port that it listens on", async (t) => {
  const server = createServer();
  t.teardown(() => server.close());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const { kind, processes } = await listenersOf(run, port);
  if (kind === "unknown") return t.comment("this machine has no ss");
  t.same(
    processes.map(({ pid }) => pid),
    [process.pid],
  );
});

t.test("systemd and the proxy are no other program", async (t) => {
  const listeners = [1, 7, 9].map((pid) => ({ name: "x", pid }));
  t.same(await notTheProxy(async (pid) => pid === 7, listeners), [{ name: "x", pid: 9 }]);
});

t.test("a process is the proxy by its executable or by the file that it was started with", async (t) => {
  t.ok(await runsProxy(process.argv[1] ?? "", process.pid));
  t.notOk(await runsProxy("/usr/bin/ec2metaproxy", process.pid));
  t.notOk(await runsProxy("x", 0), "there is no such process");
});
