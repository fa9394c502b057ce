import { type BigIntStats, fstatSync } from "node:fs";
import { pino } from "pino";
import { explain } from "../errors.ts";
import type { Log, LogFields } from "../log.ts";
import { printable } from "../text.ts";

type LogSettings = {
  /** `debug` shows every request. */
  readonly level: "debug" | "info" | "error";
  /**
   * Begin each line with its syslog priority (`<6>`). journald removes it, and `journalctl -p warning` then
   * works.
   */
  readonly priorities: boolean;
  /** Takes a line with its line feed. */
  readonly write: (line: string) => void;
};

/** pino's level numbers to syslog's priorities (sd-daemon(3)). */
const priorityOf: Readonly<Record<number, number>> = { 20: 7, 30: 6, 40: 4, 50: 3, 60: 2 };

/** Keys whose values never reach a line, however deep in an object they are. */
const secrets: ReadonlySet<string> = new Set([
  "secretAccessKey",
  "sessionToken",
  "token",
  "Token",
  "SecretAccessKey",
  "SessionToken",
  "password",
]);
const redacted = "[redacted]";

/**
 * The log: one line per event, the message first, then `key=value`. journald or the terminal adds the time.
 * pino filters by level; the hook writes the line instead of pino, whose form is JSON and is not for people.
 */
export function openLog({ level, priorities, write }: LogSettings): Log {
  return pino(
    {
      level,
      base: null,
      hooks: {
        logMethod: (args, _writeJson, levelNumber) => {
          const [fields, message] = args as unknown as [LogFields, string]; // Log's methods have no other form
          const prefix = priorities ? `<${priorityOf[levelNumber] ?? 6}>` : "";
          write(`${prefix}${lineOf(fields, message)}\n`);
        },
      },
    },
    { write },
  );
}

/** `granted role=db`; with the messages of `err` and its causes as `error=`. */
function lineOf({ err, ...fields }: LogFields, message: string): string {
  const cause = err === undefined ? {} : { error: explain(err) };
  const pairs = Object.entries({ ...fields, ...cause }).map(([key, value]) => {
    const text = secrets.has(key) ? redacted : fieldText(value);
    return text === undefined ? "" : ` ${key}=${text}`;
  });
  return `${printable(message)}${pairs.join("")}`;
}

/**
 * Quoted unless it is one plain word. A container's text can neither start a line or a field nor control a
 * terminal.
 */
function fieldText(value: unknown): string | undefined {
  const text = typeof value === "string" ? value : jsonOf(value);
  if (text === undefined) return undefined;
  const plain = /^[^\s"=]+$/u.test(text) && printable(text) === text;
  // A Date, for one, is a JSON string already.
  const quoted = typeof value !== "string" && text.startsWith('"');
  return plain ? text : printable(quoted ? text : JSON.stringify(text));
}

/** Undefined for what JSON has no form for. Never throws: logging must not be the failure. */
function jsonOf(value: unknown): string | undefined {
  try {
    return JSON.stringify(value, (key, inner: unknown) => {
      if (secrets.has(key)) return redacted;
      return typeof inner === "bigint" ? String(inner) : inner;
    });
  } catch (error) {
    return `[${explain(error)}]`;
  }
}

/** Begins each line with the priority `err`, as systemd's own report of a failed unit has it. */
export function withErrorPriority(text: string): string {
  return text
    .split("\n")
    .map((line) => `<3>${line}`)
    .join("\n");
}

/**
 * Whether a descriptor is the stream that systemd connected to the journal: it compares device and inode,
 * since a child with redirected output inherits the variable as well (systemd.exec(5), $JOURNAL_STREAM).
 */
export function isJournal(fd: number, journalStream: string | undefined): boolean {
  const stat = statOf(fd);
  return stat !== undefined && journalStream === `${stat.dev}:${stat.ino}`;
}

/** Whether a descriptor is a socket, as each stream to the journal is. */
export function isSocket(fd: number): boolean {
  return statOf(fd)?.isSocket() ?? false;
}

function statOf(fd: number): BigIntStats | undefined {
  try {
    return fstatSync(fd, { bigint: true });
  } catch {
    return undefined; // closed
  }
}
