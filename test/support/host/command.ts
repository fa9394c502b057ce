import { type ChildProcess, spawn } from "node:child_process";

export type CommandResult = { readonly code: number; readonly stdout: string; readonly stderr: string };

export type CommandOptions = {
  /** The command and all that it started in its process group is killed then. Default: one minute. */
  readonly timeoutMs?: number;
  /** The whole environment, not an addition. Default: this process's. */
  readonly env?: NodeJS.ProcessEnv;
  readonly stdin?: string | Buffer;
  /** Reject on an exit code other than 0 (default); `false` returns it. */
  readonly check?: boolean;
};

/** Runs a command to its end. Killed by a signal or by the time limit: rejects whatever `check` says. */
export async function runCommand(
  command: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  return await new RunningCommand(command, options).finished;
}

/** A command that is not waited for. Its life is bounded all the same. */
export class RunningCommand {
  /** As `runCommand` would: rejects on failure, on the time limit and after `stop`. */
  readonly finished: Promise<CommandResult>;
  readonly #child: ChildProcess;
  readonly #output = { stdout: "", stderr: "" };
  /** Where it was asked for; the stack of a failure that comes later says nothing of that. */
  readonly #asked = new Error("asked for here");

  constructor(command: readonly string[], options: CommandOptions = {}) {
    const [file, ...args] = command;
    if (file === undefined) throw new Error("running a command: it is empty");
    // Detached gives it a process group of its own, so that its children can be ended with it.
    this.#child = spawn(file, args, { env: options.env ?? process.env, detached: true, stdio: "pipe" });
    this.finished = this.#finish(command.join(" "), options);
    // Whoever does not wait for a command that runs along must not be ended by its failure.
    this.finished.catch(() => {});
  }

  get stdout(): string {
    return this.#output.stdout;
  }

  get stderr(): string {
    return this.#output.stderr;
  }

  /** Ends the whole process group; resolves when the command is gone. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    this.#kill(signal);
    const last = setTimeout(() => this.#kill("SIGKILL"), 5_000);
    await this.finished.catch(() => {});
    clearTimeout(last);
  }

  async #finish(shown: string, options: CommandOptions): Promise<CommandResult> {
    const timeoutMs = options.timeoutMs ?? 60_000;
    const child = this.#child;
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#kill("SIGKILL");
      // A grandchild that left the group may still hold the pipes: do not wait for it.
      setTimeout(() => {
        child.stdout?.destroy();
        child.stderr?.destroy();
      }, 2_000).unref();
    }, timeoutMs);
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.#output.stdout += text;
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#output.stderr += text;
    });
    // EPIPE: the command did not read its input. Its exit code says whether that mattered.
    child.stdin?.on("error", () => {});
    child.stdin?.end(options.stdin ?? "");
    try {
      const { code, signal } = await new Promise<{ code: number | null; signal: string | null }>(
        (resolve, reject) => {
          child.once("error", reject);
          child.once("close", (code, signal) => resolve({ code, signal }));
        },
      );
      if (late) throw new Error(`no end after ${timeoutMs} ms`);
      if (code === null) throw new Error(`ended by ${signal}`);
      if (code !== 0 && options.check !== false) throw new Error(`exit code ${code}`);
      return { code, ...this.#output };
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const failure = new Error(`running \`${shown}\`: ${reason}${quoted(this.#output)}`);
      const callers = this.#asked.stack?.split("\n").filter((line) => !line.includes(import.meta.filename));
      failure.stack = [`${failure.name}: ${failure.message}`, ...(callers?.slice(1) ?? [])].join("\n");
      throw failure;
    } finally {
      clearTimeout(timer);
    }
  }

  #kill(signal: NodeJS.Signals): void {
    if (this.#child.pid === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null)
      return;
    try {
      process.kill(-this.#child.pid, signal);
    } catch {
      // It ended in between.
    }
  }
}

function quoted(output: { readonly stdout: string; readonly stderr: string }): string {
  const text = `${output.stdout}${output.stderr}`.trim();
  return text === "" ? "" : `\n${text.slice(-4_000)}`;
}
