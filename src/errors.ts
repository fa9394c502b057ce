import { inspect } from "node:util";
import { printableLines } from "./text.ts";

/** The process's exit codes. An interface: units and man page name them, and tests check that they agree. */
export const exitCodes = {
  ok: 0,
  /** `check` or `status` found a failure. */
  failed: 1,
  /** EX_USAGE: the command line is wrong. */
  usage: 64,
  /** EX_UNAVAILABLE: something outside is missing or does not answer; a retry may help. */
  unavailable: 69,
  /** EX_SOFTWARE: a bug in ec2metaproxy. */
  bug: 70,
  /** EX_CONFIG: the configuration must be edited; systemd does not restart the service after it. */
  configuration: 78,
} as const;

export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** One mistake in something that an operator wrote. */
export type Problem = {
  /** Where it is: a key path (`aliasToARN.db`), or file and line (`firewall.conf:3`). */
  readonly where: string;
  /** What is wrong, with the value that was found. */
  readonly message: string;
  /** What to write or run instead; empty where the message is enough. */
  readonly hint: string;
};

type OperatorErrorDetails = {
  readonly hint?: string;
  readonly exitCode: ExitCode;
  readonly problems?: readonly Problem[];
  readonly cause?: unknown;
};

/** A failure that the operator can fix. Printed once, at the top, without a stack. */
export class OperatorError extends Error {
  readonly hint: string;
  readonly exitCode: ExitCode;
  readonly problems: readonly Problem[];

  constructor(message: string, details: OperatorErrorDetails) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "OperatorError";
    this.hint = details.hint ?? "";
    this.exitCode = details.exitCode;
    this.problems = details.problems ?? [];
  }
}

/** The messages of an error and its causes, outermost first: `listing containers: connect EACCES`. */
export function explain(error: unknown): string {
  const messages: string[] = [];
  const seen = new Set<unknown>();
  let at = error;
  // A chain of causes may be a circle.
  while (at !== undefined && at !== null && !seen.has(at)) {
    seen.add(at);
    const message = withoutNodeAdvice(at instanceof Error ? at.message || at.name : textOf(at));
    // Libraries often repeat the cause's message in their own; print it once.
    if (!messages.at(-1)?.includes(message)) messages.push(message);
    at = at instanceof Error ? at.cause : undefined;
  }
  return messages.join(": ");
}

/** Node appends advice about its own flags to some messages, which nobody can give to this executable. */
export function withoutNodeAdvice(message: string): string {
  return message.replace(/;[^;]*\btry running Node\.js with [^;]*/g, "");
}

/** String() throws for an object without a prototype. */
function textOf(thrown: unknown): string {
  try {
    return String(thrown);
  } catch {
    return inspect(thrown);
  }
}

/** A problem on one line, then its hint: `aliasToARN.db: expected a role ARN, got "x". Write …`. */
export function problemLine(problem: Problem): string {
  return `${problem.where}: ${problem.message}.${problem.hint === "" ? "" : ` ${problem.hint}`}`;
}

/**
 * What is printed for a failure that reached the top: message and causes, each problem, the hint. A message
 * may quote a container's name or an engine's answer, so control characters are escaped; lines after a
 * message's own line breaks are indented further than our lines.
 */
export function report(error: unknown): string {
  const lines = [printableLines(explain(error), "      ")];
  if (error instanceof OperatorError) {
    for (const problem of error.problems) lines.push(`  ${printableLines(problemLine(problem), "      ")}`);
    if (error.hint !== "") lines.push(printableLines(error.hint, "      "));
  }
  return lines.join("\n");
}
