import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import t from "tap";
import { openSocketTable, processStartedAt } from "../../../src/containers/proc.ts";

const stat = (name: string, state: string, startedAt: string) =>
  `5 (${name}) ${state} ${"0 ".repeat(18)}${startedAt} 0`;

const stats = [
  ["a running process", stat("sh", "R", "777"), 777],
  ["a name with brackets and spaces", stat("a) S 1 (b) b", "S", "777"), 777],
  ["a zombie", stat("sh", "Z", "777"), undefined],
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
