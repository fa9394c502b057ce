import { StringDecoder } from "node:string_decoder";
import { execa } from "execa";

export type CommandResult = { readonly code: number; readonly stdout: string; readonly stderr: string };

export type CommandOptions = {
  /** The command's whole process group is killed then. Default: one minute. */
  readonly timeoutMs?: number;
  /** The whole environment, not an addition. Default: this process's. */
  readonly env?: NodeJS.ProcessEnv;
  readonly stdin?: string | Buffer;
  /** Reject on an exit code other than 0 (default); `false` returns it. */
  readonly check?: boolean;
};

/** Runs a command to its end. Rejects if a signal or the time limit ended it, also with `check: false`. */
export async function runCommand(
  command: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  return await new RunningCommand(command, options).finished;
}

/** How long to wait for the rest of the output after the command was killed. */
const drainMs = 2_000;

/** A command that runs beside the test, until its time limit at the latest. */
export class RunningCommand {
  /** Rejects on failure, on the time limit and after `stop`, as `runCommand` does. */
  readonly finished: Promise<CommandResult>;
  readonly #subprocess: ReturnType<typeof start>;
  readonly #output = { stdout: "", stderr: "" };
  /** The caller's stack. The stack of a later failure does not contain it. */
  readonly #caller = new Error("caller");

  constructor(command: readonly string[], options: CommandOptions = {}) {
    const [file, ...args] = command;
    if (file === undefined) throw new Error("running a command: it is empty");
    this.#subprocess = start(file, args, options);
    for (const name of ["stdout", "stderr"] as const) {
      const decoder = new StringDecoder();
      this.#subprocess[name].on("data", (chunk: Buffer) => {
        this.#output[name] += decoder.write(chunk);
      });
    }
    this.finished = this.#finish(command.join(" "), options);
    // A command that nobody waits for must not end this process when it fails.
    this.finished.catch(() => {});
  }

  /** What it has written so far. */
  get stdout(): string {
    return this.#output.stdout;
  }

  get stderr(): string {
    return this.#output.stderr;
  }

  /** Ends the whole process group, with SIGKILL after `forceKillMs`; resolves when the command is gone. */
  async stop(signal: NodeJS.Signals = "SIGTERM", forceKillMs = 5_000): Promise<void> {
    this.#kill(signal);
    const force = setTimeout(() => this.#kill("SIGKILL"), forceKillMs);
    await this.finished.catch(() => {});
    clearTimeout(force);
  }

  async #finish(shown: string, options: CommandOptions): Promise<CommandResult> {
    const timeoutMs = options.timeoutMs ?? 60_000;
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      this.#kill("SIGKILL");
      // A descendant that left the process group may hold the pipes open: stop waiting for their end.
      setTimeout(() => {
        this.#subprocess.stdout.destroy();
        this.#subprocess.stderr.destroy();
      }, drainMs).unref();
    }, timeoutMs);
    const result = await this.#subprocess;
    clearTimeout(timer);
    const { exitCode, signal } = result;
    if (!isLate && exitCode !== undefined && (exitCode === 0 || options.check === false))
      return { code: exitCode, ...this.#output };
    const reason = isLate
      ? `no end after ${timeoutMs} ms`
      : exitCode !== undefined
        ? `exit code ${exitCode}`
        : signal !== undefined
          ? `ended by ${signal}`
          : (result.originalMessage ?? result.shortMessage ?? "it did not start");
    throw this.#failure(`running \`${shown}\`: ${reason}${quoted(this.#output)}`);
  }

  #failure(message: string): Error {
    const failure = new Error(message);
    const callers = this.#caller.stack?.split("\n").filter((line) => !line.includes(import.meta.filename));
    failure.stack = [`${failure.name}: ${message}`, ...(callers?.slice(1) ?? [])].join("\n");
    return failure;
  }

  #kill(signal: NodeJS.Signals): void {
    const { pid, exitCode, signalCode } = this.#subprocess.nodeChildProcess;
    if (pid === undefined || exitCode !== null || signalCode !== null) return;
    try {
      process.kill(-pid, signal);
    } catch {
      // It has just ended.
    }
  }
}

/** In a process group of its own (`detached`), so that its children can be killed with it. */
function start(file: string, args: readonly string[], options: CommandOptions) {
  return execa(file, args, {
    env: options.env ?? process.env,
    extendEnv: false,
    input: options.stdin ?? "",
    detached: true,
    buffer: false,
    reject: false,
  });
}

function quoted(output: { readonly stdout: string; readonly stderr: string }): string {
  const text = `${output.stdout}${output.stderr}`.trim();
  return text === "" ? "" : `\n${text.slice(-4_000)}`;
}
