import { type DestinationStream, pino } from "pino";
import type { Log } from "../log.ts";
import { printable } from "../text.ts";

type LogSettings = {
  /** `debug` shows every request. */
  readonly level: "debug" | "info";
  /** Prefix each line with its syslog priority (`<6>`), which journald takes off and keeps: `journalctl -p warning` then works. */
  readonly priorities: boolean;
  readonly write: (line: string) => void;
};

/** pino's level numbers to syslog's (sd-daemon(3)). */
const priorityOf: Readonly<Record<number, number>> = { 20: 7, 30: 6, 40: 4, 50: 3, 60: 2 };

/** Keys whose values never reach a line, whatever object they came in with. */
const secrets = [
  "secretAccessKey",
  "sessionToken",
  "token",
  "Token",
  "SecretAccessKey",
  "SessionToken",
  "password",
];

/**
 * The log: one line an event, message first, then `key=value`. journald or the terminal's wrapper adds the time.
 * pino filters levels, serialises errors and redacts; this only lays its line out for a person.
 */
export function openLog(settings: LogSettings): Log {
  const destination: DestinationStream = {
    write: (line) => settings.write(`${layOut(line, settings.priorities)}\n`),
  };
  return pino(
    {
      level: settings.level,
      base: null,
      timestamp: false,
      redact: { paths: secrets.flatMap((key) => [key, `*.${key}`]), censor: "[redacted]" },
    },
    destination,
  );
}

/** `{"level":30,"msg":"granted","role":"db"}` -> `<6>granted role=db`. */
function layOut(line: string, priorities: boolean): string {
  const { level, msg, err, ...fields } = JSON.parse(line) as Record<string, unknown>; // pino wrote it a moment ago
  const prefix = priorities ? `<${priorityOf[Number(level)] ?? 6}>` : "";
  const cause = typeof err === "object" && err !== null && "message" in err ? { error: err.message } : {};
  const pairs = Object.entries({ ...fields, ...cause }).map(([key, value]) => ` ${key}=${fieldText(value)}`);
  return `${prefix}${printable(String(msg ?? ""))}${pairs.join("")}`;
}

function fieldText(value: unknown): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  // A container's words must be able neither to begin a line or a field of their own nor to move a terminal's cursor.
  const plain = /^[^\s"=]+$/u.test(text) && printable(text) === text;
  return plain ? text : printable(JSON.stringify(text));
}
