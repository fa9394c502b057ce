import { execa } from "execa";
import { exitCodes, OperatorError } from "../errors.ts";

/** The result of running a command. */
export type Outcome =
  | { readonly kind: "ran"; readonly exitCode: number; readonly stdout: string; readonly stderr: string }
  /** The command is not on PATH. */
  | { readonly kind: "missing" };

/**
 * Runs a command with `input` on its standard input. Never rejects because the command fails.
 * @param limitMs the command is killed after this time; its exit code is then 255
 */
export type Run = (
  command: string,
  args: readonly string[],
  input?: string,
  limitMs?: number,
) => Promise<Outcome>;

/**
 * A command that waits longer than this, for example for a lock, has hung. Runs of the repair timer must not
 * pile up.
 */
const timeoutMs = 20_000;

/**
 * Wraps execa: no shell, messages in English. If the command timed out or was killed, `stderr` starts with
 * the reason.
 */
export const run: Run = async (command, args, input = "", limitMs = timeoutMs) => {
  const result = await execa(command, args, {
    input,
    reject: false,
    timeout: limitMs,
    // The folder that we were started in may be unreadable for this user, or gone.
    cwd: "/",
    env: { LC_ALL: "C" },
    stripFinalNewline: false,
  });
  if (result.code === "ENOENT") return { kind: "missing" };
  const exitCode = result.exitCode ?? 255;
  return {
    kind: "ran",
    exitCode,
    stdout: result.stdout,
    stderr:
      result.exitCode === undefined
        ? `${result.shortMessage}\n${result.stderr ?? ""}`
        : result.stderr || (result.shortMessage ?? ""),
  };
};

/**
 * Runs a command that goes on, and passes on each line of its output, errors included: monitors go on after
 * one. Resolves with why it ended. Never rejects.
 */
export type Follow = (
  command: string,
  args: readonly string[],
  onLine: (line: string) => void,
  signal: AbortSignal,
) => Promise<string>;

export const follow: Follow = async (command, args, onLine, signal) => {
  const subprocess = execa(command, args, {
    all: true,
    buffer: { stdout: false, stderr: true },
    cancelSignal: signal,
    // The folder that we were started in may be unreadable for this user, or gone.
    cwd: "/",
    env: { LC_ALL: "C" },
    reject: false,
    stdin: "ignore",
  });
  for await (const line of subprocess.iterable({ from: "all" })) onLine(line);
  const { code, exitCode = 255, stderr = "" } = await subprocess;
  if (code === "ENOENT") return whyNot(command, { kind: "missing" });
  return whyNot(command, { kind: "ran", exitCode, stdout: "", stderr });
};

/** A process that waits until it is released, and ends by itself when this one is gone. */
export type Held = {
  readonly pid: number;
  /** The first line of its output, which says that it is ready. */
  readonly line: string;
  /** Closes its standard input, at which it ends, and waits for that. */
  release(): Promise<void>;
};

/** Starts a process that writes one line and then reads its standard input to the end. Never rejects. */
export type Hold = (
  command: string,
  args: readonly string[],
) => Promise<{ readonly ok: true; readonly held: Held } | { readonly ok: false; readonly why: string }>;

/** How long a held process may take to end. */
const releaseMs = 5_000;

export const hold: Hold = async (command, args) => {
  const subprocess = execa(command, args, {
    // A session of its own: Ctrl-C ends only us, and its cleaning up is not cut short.
    detached: true,
    // The folder that we were started in may be unreadable for this user, or gone.
    cwd: "/",
    env: { LC_ALL: "C" },
    reject: false,
    stdin: "pipe",
  });
  const lines = subprocess.iterable({ from: "stdout", preserveNewlines: false })[Symbol.asyncIterator]();
  const first = await lines.next();
  const { pid } = subprocess;
  if (pid === undefined || first.done === true) {
    const { code, exitCode = 255, stderr = "" } = await subprocess;
    const outcome: Outcome =
      code === "ENOENT" ? { kind: "missing" } : { kind: "ran", exitCode, stdout: "", stderr };
    return { ok: false, why: whyNot(command, outcome) };
  }
  const release = async () => {
    subprocess.stdin.end();
    const timer = setTimeout(() => subprocess.kill("SIGKILL"), releaseMs);
    await subprocess;
    clearTimeout(timer);
  };
  return { ok: true, held: { pid, line: first.value, release } };
};

/**
 * Returns the output of a command that must succeed.
 * @throws OperatorError 69 that says what to install or run
 */
export async function mustRun(
  run: Run,
  doing: string,
  command: string,
  args: readonly string[],
  input?: string,
) {
  const outcome = await run(command, args, input);
  if (outcome.kind === "ran" && outcome.exitCode === 0) return outcome.stdout;
  throw failure(doing, command, outcome);
}

/** Says in one line why a command failed. */
export function whyNot(command: string, outcome: Outcome): string {
  if (outcome.kind === "missing") return `${command}: command not found`;
  const lines = outcome.stderr.split("\n").filter((line) => line.trim() !== "" && !/^# Warning/.test(line));
  return `${command}: ${lines[0]?.trim() ?? `exit status ${outcome.exitCode}`}`;
}

/** The error for a failed command, with a suitable hint. */
export function failure(doing: string, command: string, outcome: Outcome): OperatorError {
  return new OperatorError(`${doing}: ${whyNot(command, outcome)}`, {
    hint: hintFor(command, outcome),
    exitCode: exitCodes.unavailable,
  });
}

const packageOf: Readonly<Record<string, string>> = {
  nft: "nftables",
  ip: "iproute2 (iproute on RPM hosts)",
};

const rootHint = "Run it as root: only root can read or change the packet filter.";

function hintFor(command: string, outcome: Outcome): string {
  if (outcome.kind === "missing") return `Install the package ${packageOf[command] ?? "iptables"}.`;
  if (isPermission(outcome)) return rootHint;
  if (isPassing(outcome))
    return "The host was temporarily out of memory, processes or time. The rules in force were not changed. Run it again; the timer does so too.";
  if (command === "ip")
    return "This kernel has no policy routing (CONFIG_IP_MULTIPLE_TABLES). FORWARDED=listed does not need it.";
  const other = command === "nft" ? "BACKEND=iptables" : "BACKEND=nftables";
  const modules =
    command === "nft"
      ? "nf_tables nft_chain_nat nft_redir nft_ct nft_reject_inet"
      : "iptable_nat iptable_mangle xt_conntrack";
  return `Where the kernel lacks a part, load it (modprobe -a ${modules}) or set ${other}.`;
}

/**
 * Whether a failure is temporary: the host is out of memory, processes or time. A container can cause that,
 * so it must never lead to removing a protection.
 */
export function isPassing(outcome: Outcome): boolean {
  return outcome.kind === "ran" && outcome.exitCode !== 0 && passing.test(outcome.stderr);
}

/** Messages of libc, Linux, nft, iptables, ebtables, the dynamic linker and of spawning a process. */
const passing = new RegExp(
  [
    "cannot allocate|out of memory|memory allocation|no buffer space|failed to map segment",
    "temporarily unavailable|resource busy|interrupted|too many open files|no space left",
    "timed out|was killed|xtables lock|holding the lock",
    String.raw`\bE(?:AGAIN|NOMEM|MFILE|NFILE|BUSY|INTR|NOBUFS|NOSPC)\b`,
  ].join("|"),
  "i",
);

/** Whether a failed command says that only root may do this. That says nothing about the rules in force. */
export function needsRoot(error: unknown): boolean {
  return error instanceof OperatorError && error.hint === rootHint;
}

export function isPermission(outcome: Outcome): boolean {
  return (
    outcome.kind === "ran" && /operation not permitted|permission denied|must be root/i.test(outcome.stderr)
  );
}
