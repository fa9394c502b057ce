import type { Writable } from "node:stream";

/** Standard output or standard error. */
export type Output = {
  write(text: string): void;
  /** The same for a service's log, which has no end: while 16 MiB wait for a reader that hangs, lines are lost, and counted. */
  writeLog(line: string): void;
  /**
   * Resolves when all that was written has been taken, however slow the reader is; or, with the error, when it cannot be any more.
   * A reader that went away (`| head -1`) is no error: it has what it wanted.
   */
  written(): Promise<Error | undefined>;
};

const logBacklogBytes = 16 * 1024 * 1024;

/** What is written after the reader is gone is lost without a word: a command goes on to its end, `firewall apply` above all. */
export function openOutput(stream: Writable): Output {
  let failure: Error | undefined;
  const broken = new Promise<Error>((resolve) => {
    // Also keeps the error from ending the process in the middle of a command.
    stream.on("error", (error) => {
      failure ??= error;
      resolve(error);
    });
  });
  const write = (text: string) => {
    if (failure === undefined) stream.write(text);
  };
  let linesLost = 0;
  return {
    write,
    writeLog: (line) => {
      if (stream.writableLength > logBacklogBytes) {
        linesLost += 1;
        return;
      }
      if (linesLost > 0) write(`${linesLost} lines of the log were lost: their reader was too slow\n`);
      linesLost = 0;
      write(line);
    },
    written: async () => {
      const taken = new Promise<undefined>((resolve) => {
        // Called in the order of the writes, so after the last of them.
        if (failure === undefined) stream.write("", (error) => error ?? resolve(undefined));
      });
      const error = failure ?? (await Promise.race([taken, broken]));
      return error !== undefined && "code" in error && error.code === "EPIPE" ? undefined : error;
    },
  };
}
