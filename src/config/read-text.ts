import { constants, type FileHandle, open } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import type { Problem } from "../errors.ts";

/** A configuration with 1,000 aliases has about 100 kB. */
const maxBytes = 1024 * 1024;
/** The writer of a pipe (`-c <(…)`) may never write. */
const pipeMs = 2_000;
const pipePollMs = 10;

/**
 * Returns the text of a configuration file, or a problem if it is too large or not UTF-8. Time and length are
 * bounded even if the path is a FIFO or a device. Rejects with the error of node:fs if the file cannot be
 * opened or read (EISDIR for a directory).
 */
export async function readText(path: string): Promise<string | Problem> {
  // Without O_NONBLOCK, opening a FIFO waits for a writer, in a thread that cannot be interrupted.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  try {
    const bytes = await readBounded(file);
    if (bytes === "late")
      return problem(path, `reading did not reach the end within ${pipeMs / 1000} s`, "Name a regular file.");
    if (bytes.length > maxBytes)
      return problem(path, "the file is larger than 1 MiB", "Is it the right file? Name another with -c.");
    return decode(bytes, path);
  } finally {
    await file.close();
  }
}

async function readBounded(file: FileHandle): Promise<Buffer | "late"> {
  const chunks: Buffer[] = [];
  let length = 0;
  const late = AbortSignal.timeout(pipeMs);
  while (length <= maxBytes) {
    const chunk = Buffer.alloc(64 * 1024);
    const read = await file.read(chunk, 0, chunk.length, null).then(
      ({ bytesRead }) => bytesRead,
      (error: NodeJS.ErrnoException) => {
        if (error.code === "EAGAIN") return undefined;
        throw error;
      },
    );
    if (read === 0) return Buffer.concat(chunks);
    if (read !== undefined) {
      chunks.push(chunk.subarray(0, read));
      length += read;
    } else {
      if (late.aborted) return "late";
      await sleep(pipePollMs);
    }
  }
  return Buffer.concat(chunks);
}

/**
 * Strict: Node would replace invalid bytes by U+FFFD, and an alias that contains them could never be found.
 */
function decode(bytes: Buffer, path: string): string | Problem {
  const [first = 0, second = 0] = bytes;
  if ((first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff))
    return problem(path, "the file is UTF-16", "Save it as UTF-8: iconv -f UTF-16 -t UTF-8.");
  try {
    return strict.decode(bytes);
  } catch {
    return problem(
      `${path}:${firstBadLine(bytes)}`,
      "the file is not valid UTF-8",
      "Save it as UTF-8: iconv -f ISO-8859-1 -t UTF-8.",
    );
  }
}

const strict = new TextDecoder("utf-8", { fatal: true });

/** No byte of a multi-byte character is a line feed, so each line can be checked alone. */
function firstBadLine(bytes: Buffer): number {
  let line = 1;
  for (let from = 0; from <= bytes.length; line++) {
    const feed = bytes.indexOf(0x0a, from);
    const end = feed === -1 ? bytes.length : feed;
    try {
      strict.decode(bytes.subarray(from, end));
    } catch {
      return line;
    }
    from = end + 1;
  }
  return line;
}

function problem(where: string, message: string, hint: string): Problem {
  return { where, message, hint };
}
