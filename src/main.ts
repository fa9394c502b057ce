import { setTimeout as sleep } from "node:timers/promises";
import { type Command, parse, usage } from "./cli.ts";
import { readEnvironment } from "./config/load.ts";
import { type ExitCode, exitCodes, OperatorError, report } from "./errors.ts";
import { openLog } from "./observability/journal.ts";
import { openOutput } from "./output.ts";
import { printableLines, shown } from "./text.ts";
import { versionLine } from "./version.ts";

const output = openOutput(process.stdout);
const errors = openOutput(process.stderr);
const lastLogLinesMs = 3_000;

/** Each command escapes the names it shows; this is the second net below them. */
const print = (text: string) => output.write(`${shown(text).replace(/\n$/, "")}\n`);
const complain = (text: string) => errors.write(`${shown(text)}\n`);

/** A command is loaded when it is asked for: `status` need not pay for the AWS SDK, nor `firewall` for the engine's client. */
async function run(command: Command): Promise<ExitCode> {
  const environment = readEnvironment();
  // What the one-shot commands have to say beside their result goes to standard error, which is not their output.
  const log = openLog({
    level: "info",
    priorities: environment.journalStream !== undefined,
    write: errors.write,
  });
  switch (command.command) {
    case "version":
      print(versionLine(process.version));
      return exitCodes.ok;
    case "help":
      print(usage);
      return exitCodes.ok;
    case "serve": {
      const { serve } = await import("./commands/serve.ts");
      return serve(command, environment, {
        pid: process.pid,
        write: output.writeLog,
        on: (signal, act) => void process.on(signal, act),
      });
    }
    case "check": {
      const { check } = await import("./commands/check.ts");
      const { hostChecks } = await import("./commands/host-checks.ts");
      return check(command, print, log, hostChecks(environment, log), environment);
    }
    case "status": {
      const { status } = await import("./commands/status.ts");
      return status(command, environment, print);
    }
    case "explain": {
      const { explain } = await import("./commands/explain.ts");
      return explain(command, environment, print, log);
    }
    case "firewall": {
      const { firewallCommand } = await import("./commands/firewall.ts");
      return firewallCommand(command, print, log);
    }
  }
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
  // The log's reader may hang for good, and the service must end all the same; a reader of a result is waited for.
  const lost = await (command?.command === "serve"
    ? Promise.race([written, sleep(lastLogLinesMs)])
    : written);
  return lost === undefined ? code : lost;
}

function failed(error: unknown): ExitCode {
  complain(`ec2metaproxy: ${report(error)}`);
  if (error instanceof OperatorError) return error.exitCode;
  complain(error instanceof Error ? printableLines(error.stack ?? "", "") : "");
  return exitCodes.bug;
}

/** Waits until everything is written; the exit code instead of the command's own where it cannot be, as on a full disk. */
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

// Not by exitCode: a question to STS or the engine that nobody waits for any more would keep a failed start alive, and systemd waiting.
void main().then((code) => process.exit(code));
