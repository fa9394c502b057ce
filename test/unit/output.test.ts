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
    const output = openOutput(stream);
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
      `${30_000 - kept} lines of the log were lost: their reader was too slow\nagain\n`,
    );
  },
);

t.test("a reader that went away is no error, and anything else is", async (t) => {
  for (const [code, expected] of [
    ["EPIPE", undefined],
    ["ENOSPC", { code: "ENOSPC" }],
    ["EIO", { code: "EIO" }],
  ] as const) {
    const stream = new Writable({
      write: (_, __, done) => done(Object.assign(new Error(code), { code })),
    });
    const output = openOutput(stream);
    output.write("a");
    output.write("b");
    t.match((await output.written()) ?? {}, expected ?? {});
    t.equal((await output.written()) === undefined, expected === undefined, "and again");
    output.write("c");
  }
});

t.test("nothing written is written", async (t) => {
  t.equal(await openOutput(new PassThrough()).written(), undefined);
});
