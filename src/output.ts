import type { Writable } from "node:stream";

/** Standard output or standard error. */
export type Output = {
  write(text: string): void;
  /**
   * For a service's log, which never ends: while 16 MiB wait for a reader that hangs, lines are dropped and
   * counted.
   */
  writeLog(line: string): void;
  /**
   * Resolves when the reader has taken everything, however slow it is; or with the error, if it no longer
   * can. A reader that went away (`| head -1`) is no error: it has what it wanted.
   */
  written(): Promise<Error | undefined>;
};

const logBacklogBytes = 16 * 1024 * 1024;

/**
 * After the reader is gone, writes are dropped silently: a command, above all `firewall apply`, must run to
 * its end.
 * @param noticePrefix begins a notice of dropped lines, such as the priority `<4>` for journald
 */
export function openOutput(stream: Writable, noticePrefix = ""): Output {
  let failure: Error | undefined;
  const broken = new Promise<Error>((resolve) => {
    // An error without a listener would end the process in the middle of a command.
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
      if (linesLost > 0)
        write(`${noticePrefix}${linesLost} lines of the log were lost: their reader was too slow\n`);
      linesLost = 0;
      write(line);
    },
    written: async () => {
      const taken = new Promise<undefined>((resolve) => {
        // Callbacks come in the order of the writes, so this one comes after the last of them.
        if (failure === undefined) stream.write("", (error) => error ?? resolve(undefined));
      });
      const error = failure ?? (await Promise.race([taken, broken]));
      return error !== undefined && "code" in error && error.code === "EPIPE" ? undefined : error;
    },
  };
}
