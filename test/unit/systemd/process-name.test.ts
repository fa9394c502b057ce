import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:fs";
import { open, readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { nameProcess, processName } from "../../../src/systemd/process-name.ts";

const main = new URL("../../../src/main.ts", import.meta.url).pathname;

t.test("the name fits into the kernel's 15 characters", async (t) => {
  t.ok(processName.length <= 15);
});

for (const command of ["serve", "guard", "check"])
  t.test(`the process of ${command} is found by its name, and keeps its arguments`, async (t) => {
    // It waits for the configuration, which nobody writes, until it ends.
    const fifo = `${t.testdir({})}/config.json`;
    execFileSync("mkfifo", [fifo]);
    await using writer = await open(fifo, constants.O_RDWR);
    t.ok(writer.fd > 0);
    const child = spawn(process.execPath, [main, command, "-c", fifo], { stdio: "ignore" });
    t.teardown(() => child.kill("SIGKILL"));
    const exit = once(child, "exit");
    const pid = child.pid ?? 0;
    let comm = "";
    while (comm !== processName && child.exitCode === null) {
      comm = (await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "")).trim();
      await sleep(10);
    }
    t.equal(comm, processName);
    const found = execFileSync("pgrep", ["-x", processName], { encoding: "utf8" }).split("\n");
    t.ok(found.includes(String(pid)), "pgrep -x finds it");
    t.match(await readFile(`/proc/${pid}/cmdline`, "utf8"), `${command}\0-c\0`);
    await exit;
  });

t.test("where the name cannot be set, nothing fails", async (t) => {
  t.doesNotThrow(() => nameProcess("/nonexistent/comm"));
});
