import { type Command, parse, usage } from "./cli.ts";
import { readEnvironment } from "./config/load.ts";
import { type ExitCode, exitCodes, OperatorError, report } from "./errors.ts";
import { openLog } from "./observability/log.ts";
import { versionLine } from "./version.ts";

const print = (text: string) => void process.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
const complain = (text: string) => void process.stderr.write(`${text}\n`);

/** A command is loaded when it is asked for: `status` need not pay for the AWS SDK, nor `firewall` for the engine's client. */
async function run(command: Command): Promise<ExitCode> {
  const environment = readEnvironment();
  // What the one-shot commands have to say beside their result goes to standard error, which is not their output.
  const log = openLog({
    level: "info",
    priorities: environment.journalStream !== undefined,
    write: (line) => void process.stderr.write(line),
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
        write: (line) => void process.stdout.write(line),
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
      const { explainHere } = await import("./commands/explain-here.ts");
      return explainHere(command, environment, print, log);
    }
    case "firewall": {
      const { firewallHere } = await import("./commands/firewall-here.ts");
      return firewallHere(command, print, log);
    }
  }
}

async function main(): Promise<ExitCode> {
  try {
    return await run(parse(process.argv.slice(2)));
  } catch (error) {
    complain(`ec2metaproxy: ${report(error)}`);
    if (error instanceof OperatorError) return error.exitCode;
    complain(error instanceof Error ? (error.stack ?? "") : "");
    return exitCodes.bug;
  }
}

// Not by exitCode: a question to STS or the engine that nobody waits for any more would keep a failed start alive, and systemd waiting.
// Nothing that was printed is lost: on Linux, Node writes to files, pipes and terminals synchronously.
void main().then((code) => process.exit(code));
