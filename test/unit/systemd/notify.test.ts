import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import t from "tap";
import { notifier } from "../../../src/systemd/notify.ts";

const notify = new URL("../../../src/systemd/notify.ts", import.meta.url).href;
const addon = new URL("../../../node_modules/sd-notify/build/Release/notify.node", import.meta.url).pathname;

/** Node has no datagram sockets in the file system, which is what systemd listens on. */
const receiver = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("bound", flush=True)
while True:
    print(repr(s.recv(4096).decode()), flush=True)`;

const missing = existsSync(addon)
  ? spawnSync("python3", ["--version"]).error && "python3 is not installed"
  : "the addon is not built (scripts/setup builds it)";

t.test("systemd gets each message as it expects it", { skip: missing ?? false }, async (t) => {
  // Not in t.testdir(): a socket's path has room for 107 bytes.
  const folder = mkdtempSync(join(tmpdir(), "notify-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const socket = join(folder, "notify");
  const systemd = spawn("python3", ["-c", receiver, socket], { stdio: ["ignore", "pipe", "inherit"] });
  t.teardown(() => systemd.kill());
  const lines = createInterface({ input: systemd.stdout });
  const received: string[] = [];
  lines.on("line", (line) => received.push(line));
  await once(lines, "line");

  const program = `
    import { notifier } from ${JSON.stringify(notify)};
    const unit = notifier({ notifySocket: process.env.NOTIFY_SOCKET });
    unit.ready();
    unit.status("2 containers\\nMAINPID=1");
    unit.status("\\u001b[2J\\u0085\\u202e".repeat(2000));
    unit.reloading();
    unit.watchdog();
    unit.stopping();
    console.log(unit.watchdogIntervalMs);`;
  const service = spawnSync(process.execPath, ["--input-type=module", "-e", program], {
    env: { NOTIFY_SOCKET: socket, WATCHDOG_USEC: "20000000" },
    encoding: "utf8",
  });
  t.equal(service.stderr, "");
  t.equal(service.stdout, "20000\n");
  while (received.length < 7) await once(lines, "line");
  const [long = ""] = received.splice(3, 1);
  t.ok(
    long.length > 2_000 && long.length < 4_096,
    `systemd drops what has more than 4096 bytes: ${long.length}`,
  );
  t.match(long, /^'STATUS=[ -~]*…'$/);
  t.same(received, [
    "bound",
    "'READY=1'",
    "'STATUS=2 containers MAINPID=1'",
    "'RELOADING=1'",
    "'WATCHDOG=1'",
    "'STOPPING=1'",
  ]);
});

t.test("without systemd nothing is loaded and nothing happens", async (t) => {
  const unit = notifier({ notifySocket: undefined, addonPath: "/nonexistent/notify.node" });
  unit.ready();
  unit.status("serving");
  unit.reloading();
  unit.watchdog();
  unit.stopping();
  t.equal(unit.watchdogIntervalMs, 0);
});

t.test("a missing addon under systemd is an error that says what to do", async (t) => {
  t.throws(() => notifier({ notifySocket: "/run/systemd/notify", addonPath: "/nonexistent/notify.node" }), {
    message: "opening /nonexistent/notify.node, which notifies systemd",
    exitCode: 69,
    hint: /scripts\/setup/,
  });
});
