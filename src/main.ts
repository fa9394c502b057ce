import { writeSync } from "node:fs";
import { isSea } from "node:sea";
import { setTimeout as sleep } from "node:timers/promises";
import { inspect } from "node:util";
import { type Command, parse } from "./cli.ts";
import type { EnvironmentUse } from "./commands/environment.ts";
import type { Watching } from "./commands/status.ts";
import { type Environment, readEnvironment } from "./config/load.ts";
import { type ExitCode, exitCodes, OperatorError, report } from "./errors.ts";
import { isJournal, isSocket, openLog, withErrorPriority } from "./observability/journal.ts";
import { openOutput } from "./output.ts";
import { nameProcess } from "./systemd/process-name.ts";
import { printableLines, shown } from "./text.ts";
import { usage, usageOf } from "./usage.ts";
import { versionLine } from "./version.ts";

nameProcess();
const environment = readEnvironment();
const errorsAreJournal = isJournal(process.stderr.fd, environment.journalStream);
const outputIsJournal =
  isJournal(process.stdout.fd, environment.journalStream) ||
  // systemd names one stream only, that of standard error. With StandardError=journal+console, standard
  // output is another one.
  (errorsAreJournal && isSocket(process.stdout.fd));
const output = openOutput(process.stdout, outputIsJournal ? "<4>" : "");
const errors = openOutput(process.stderr);
/** How this program is started again, with its file last. */
const program = isSea() ? [process.execPath] : [process.execPath, process.argv[1] ?? ""];
/** How long a service that ends waits for the reader of its log. */
const flushMs = 3_000;

/** Each command escapes the names that it shows; `shown` escapes what one of them missed. */
const print = (text: string) => output.write(`${shown(text).replace(/\n$/, "")}\n`);
const forJournal = (text: string) => (errorsAreJournal ? withErrorPriority(shown(text)) : shown(text));
const complain = (text: string) => errors.write(`${forJournal(text)}\n`);

/** The parts of the process that services use. */
const host = {
  pid: process.pid,
  write: output.writeLog,
  priorities: outputIsJournal,
  on: (signal: NodeJS.Signals, act: () => void) => void process.on(signal, act),
};

/**
 * Loads only the command that runs: `status` does not pay for the AWS SDK, nor `firewall` for the engine's
 * client.
 */
async function run(command: Command): Promise<ExitCode> {
  // One-shot commands log to standard error, to keep their result on standard output clean.
  const log = openLog({ level: "info", priorities: errorsAreJournal, write: errors.write });
  // What these find is their result, and not said a second time beside it.
  const quiet = openLog({ level: "error", priorities: errorsAreJournal, write: errors.write });
  switch (command.command) {
    case "version":
      print(versionLine(process.version));
      return exitCodes.ok;
    case "help":
      print(command.of === undefined ? usage : usageOf(command.of));
      return exitCodes.ok;
    case "serve": {
      const { serve } = await import("./commands/serve.ts");
      const use = { aws: true, engine: command.guard === undefined };
      return serve(command, usable(use), host);
    }
    case "guard": {
      const { guard } = await import("./commands/guard.ts");
      return guard(command, usable({ aws: false, engine: true }), host);
    }
    case "check": {
      const { check } = await import("./commands/check.ts");
      const { hostChecks } = await import("./commands/host-checks.ts");
      const { checkedEnvironment } = await import("./commands/environment.ts");
      const { readServices } = await import("./commands/services.ts");
      const services = await readServices(environment);
      const isRoot = process.getuid?.() === 0;
      return check(
        command,
        print,
        quiet,
        (checked) => hostChecks({ ...services, environment: checked }, quiet, program, isRoot),
        checkedEnvironment(services, command.configOnly),
      );
    }
    case "status": {
      const { status } = await import("./commands/status.ts");
      return status(command, environment, print, watching());
    }
    case "explain": {
      const { explain } = await import("./commands/explain.ts");
      return explain(command, environment, print, quiet);
    }
    case "firewall": {
      const { firewallCommand } = await import("./commands/firewall.ts");
      return firewallCommand(command, print, log, program);
    }
    case "probe-request": {
      const { carryOut, parseOrder } = await import("./firewall/probe-client.ts");
      print(JSON.stringify(await carryOut(parseOrder(command.order))));
      return exitCodes.ok;
    }
  }
}

/** Until SIGINT or SIGTERM, or until the reader of the output is gone. */
function watching(): Watching {
  const end = new AbortController();
  const { signal } = end;
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => end.abort());
  process.stdout.on("error", () => end.abort());
  return {
    next: (ms) => sleep(ms, true, { signal }).catch(() => false), // aborted
    // Moves to the top left and clears from there, so that what stays the same does not flicker.
    clear: process.stdout.isTTY ? () => output.write("\u001b[H\u001b[J") : undefined,
  };
}

async function usable(use: EnvironmentUse): Promise<Environment> {
  const { usableEnvironment } = await import("./commands/environment.ts");
  return usableEnvironment(environment, use);
}

async function main(): Promise<ExitCode> {
  let command: Command | undefined;
  let code: ExitCode;
  try {
    command = parse(process.argv.slice(2));
    code = await run(command);
  } catch (error) {
    code = failed(error);
  }
  const written = writeOut();
  // A service must end even if the reader of its log hangs. The reader of a command's result is waited for.
  const isService = command?.command === "serve" || command?.command === "guard";
  const lost = await (isService ? Promise.race([written, sleep(flushMs)]) : written);
  return lost === undefined ? code : lost;
}

function failed(error: unknown): ExitCode {
  complain(failureText(error));
  return error instanceof OperatorError ? error.exitCode : exitCodes.bug;
}

/** A bug has its stack, which the report of a failure that the operator can fix leaves out. */
function failureText(error: unknown): string {
  const lines = `ec2metaproxy: ${report(error)}`;
  if (error instanceof OperatorError) return lines;
  return `${lines}\n${printableLines(error instanceof Error ? (error.stack ?? "") : inspect(error), "")}`;
}

/** Waits until everything is written. Resolves to an exit code where it cannot be, as on a full disk. */
async function writeOut(): Promise<ExitCode | undefined> {
  const lost = await output.written();
  if (lost !== undefined) {
    complain(
      `ec2metaproxy: ${report(new Error("writing to standard output", { cause: lost }))}; part of the output is missing`,
    );
  }
  await errors.written();
  return lost === undefined ? undefined : exitCodes.unavailable;
}

// Outside of every command's promise, such as in a timer. Node itself would print it raw and without a
// priority. Written and ended at once: a process in an undefined state must not answer another request.
process.on("uncaughtException", (error: unknown) => {
  try {
    writeSync(process.stderr.fd, `${forJournal(failureText(error))}\n`);
  } finally {
    process.exit(exitCodes.bug);
  }
});

// exit(), not exitCode: a call to STS or the engine that nobody waits for any more would delay the end of a
// failed start.
void main().then((code) => process.exit(code));
