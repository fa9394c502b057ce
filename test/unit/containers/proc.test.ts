import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import t from "tap";
import { isInCgroupOf, openSocketTable, processStartedAt } from "../../../src/containers/proc.ts";

const stat = (name: string, state: string, startedAt: string, threads = 1) =>
  `5 (${name}) ${state} ${"0 ".repeat(16)}${threads} 0 ${startedAt} 0`;

const stats = [
  ["a running process", stat("sh", "R", "777"), 777],
  ["a name with brackets and spaces", stat("a) S 1 (b) b", "S", "777"), 777],
  ["a zombie", stat("sh", "Z", "777"), undefined],
  ["a process whose first thread has ended", stat("sh", "Z", "777", 2), 777],
  ["a dead process", stat("sh", "X", "777"), undefined],
  ["no start time", stat("sh", "S", ""), undefined],
  ["a start time that is not a number", stat("sh", "S", "soon"), undefined],
  ["a file that is cut short", "5 (sh) S 1", undefined],
  ["an empty file", "", undefined],
] as const;
for (const [what, text, expected] of stats) {
  t.test(`the start time of ${what} is ${expected ?? "undefined"}`, async (t) => {
    const procRoot = t.testdir();
    await mkdir(`${procRoot}/5`);
    await writeFile(`${procRoot}/5/stat`, text);
    t.equal(await processStartedAt(procRoot, 5), expected);
  });
}

t.test(
  "a process keeps its start time, a later one has not an earlier one, and an ended one has none",
  async (t) => {
    const child = spawn("sleep", ["60"]);
    const pid = child.pid ?? 0;
    const own = (await processStartedAt("/proc", process.pid)) ?? 0;
    const started = (await processStartedAt("/proc", pid)) ?? 0;
    t.ok(own > 0 && started >= own);
    t.equal(await processStartedAt("/proc", pid), started);
    child.kill("SIGKILL");
    await once(child, "exit");
    t.equal(await processStartedAt("/proc", pid), undefined);
  },
);

for (const file of ["tcp", "tcp6"] as const) {
  t.test(`${file} of this process's network namespace has the kernel's header`, async (t) => {
    await using table = await openSocketTable("/proc", process.pid, file);
    t.match(await table.readFile("latin1"), /^ +sl +local_address/);
  });
}

const [own, other] = ["a1".repeat(32), "b2".repeat(32)];
const cgroups = [
  ["0::/system.slice/docker-ID.scope", true],
  ["0::/docker/ID", true],
  ["12:pids:/docker/ID\n0::/system.slice/docker.service", true],
  ["0::/machine.slice/libpod-ID.scope/container", true],
  ["0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope", true],
  ["0::/docker/OTHER", false],
  ["0::/docker/OTHER/ID", false],
  ["0::/machine.slice/libpod-OTHER.scope/ID", false],
  ["0::/machine.slice/libpod-OTHER.scope/libpod-ID.scope", false],
  ["12:pids:/docker/ID\n11:cpu:/docker/OTHER", false],
  ["0::/system.slice/xIDx/docker-ID.scope", false],
  ["0::/docker/ID0", false],
  ["0::/init.scope", false],
  ["", false],
] as const;
for (const [template, expected] of cgroups)
  t.test(
    `a process in ${JSON.stringify(template)} is ${expected ? "" : "not "}that of container ID`,
    async (t) => {
      const procRoot = t.testdir();
      await mkdir(`${procRoot}/5`);
      await writeFile(`${procRoot}/5/cgroup`, template.replaceAll("OTHER", other).replaceAll("ID", own));
      t.equal(await isInCgroupOf(procRoot, 5, own), expected);
    },
  );
