import { PassThrough, Writable } from "node:stream";
import t from "tap";
import { openOutput } from "../../src/output.ts";

t.test(
  "a log whose reader hangs takes bounded memory, and says afterwards how many lines are missing",
  async (t) => {
    let release: (() => void) | undefined;
    const taken: string[] = [];
    const stream = new Writable({
      write: (chunk, _, done) => {
        taken.push(String(chunk));
        if (release === undefined) release = done;
        else done();
      },
    });
    const output = openOutput(stream, "<4>");
    const line = `${"x".repeat(999)}\n`;
    for (let count = 0; count < 30_000; count++) output.writeLog(line);
    t.ok(stream.writableLength < 17 * 1024 * 1024, `${stream.writableLength} bytes wait`);
    release?.();
    await output.written();
    output.writeLog("again\n");
    await output.written();
    const kept = taken.filter((text) => text === line).length;
    t.match(
      taken.join("").slice(-100),
      `<4>${30_000 - kept} lines of the log were lost: their reader was too slow\nagain\n`,
    );
  },
);

for (const [code, name, expected] of [
  ["EPIPE", "EPIPE, a reader that went away, is no error", undefined],
  ["ENOSPC", "ENOSPC is an error", { code: "ENOSPC" }],
  ["EIO", "EIO is an error", { code: "EIO" }],
] as const) {
  t.test(name, async (t) => {
    const stream = new Writable({
      write: (_, __, done) => done(Object.assign(new Error(code), { code })),
    });
    const output = openOutput(stream);
    output.write("a");
    output.write("b");
    t.match((await output.written()) ?? {}, expected ?? {});
    t.equal((await output.written()) === undefined, expected === undefined, "and again");
    output.write("c");
  });
}

t.test("nothing written is written", async (t) => {
  t.equal(await openOutput(new PassThrough()).written(), undefined);
});
