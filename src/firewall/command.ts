import { execa } from "execa";
import { exitCodes, OperatorError } from "../errors.ts";

/** What a command of the host said. */
export type Outcome =
  | { readonly kind: "ran"; readonly exitCode: number; readonly stdout: string; readonly stderr: string }
  /** There is no such command on PATH. */
  | { readonly kind: "missing" };

/** Runs a command of the host to its end, with `input` on its standard input. Never rejects for what the command does. */
export type Run = (command: string, args: readonly string[], input?: string) => Promise<Outcome>;

/** A command that waits for a lock longer than this hangs; the timer that re-applies the rules must not pile up. */
const timeoutMs = 20_000;

/** execa, made narrow: no shell, messages in English. Of a command that did not come to its own end, why comes first in `stderr`. */
export const run: Run = async (command, args, input = "") => {
  const result = await execa(command, args, {
    input,
    reject: false,
    timeout: timeoutMs,
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

/** The output of a command that must work. @throws OperatorError 69 that says what to install or run. */
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

/** Says in one line why a command did not work. */
export function whyNot(command: string, outcome: Outcome): string {
  if (outcome.kind === "missing") return `${command}: command not found`;
  const lines = outcome.stderr.split("\n").filter((line) => line.trim() !== "" && !/^# Warning/.test(line));
  return `${command}: ${lines[0]?.trim() ?? `exit status ${outcome.exitCode}`}`;
}

/** The error for a command that failed, with the hint that fits. */
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

function hintFor(command: string, outcome: Outcome): string {
  if (outcome.kind === "missing") return `Install the package ${packageOf[command] ?? "iptables"}.`;
  if (isPermission(outcome)) return "Run it as root: only root may change or read the packet filter.";
  if (isPassing(outcome))
    return "The host had no memory, process or time to spare. What is in force stays; run it again, as the timer does.";
  if (command === "ip")
    return "This kernel has no policy routing (CONFIG_IP_MULTIPLE_TABLES). FORWARDED=listed does without it.";
  const other = command === "nft" ? "BACKEND=iptables" : "BACKEND=nftables";
  const modules =
    command === "nft"
      ? "nf_tables nft_chain_nat nft_redir nft_ct nft_reject_inet"
      : "iptable_nat iptable_mangle xt_conntrack";
  return `Where the kernel lacks a part, load it (modprobe -a ${modules}) or set ${other}.`;
}

/**
 * A failure that says nothing about the host: it has no memory, process or time to spare at the moment, which a container can bring about.
 * What protects the host must not be given up for it.
 */
export function isPassing(outcome: Outcome): boolean {
  return outcome.kind === "ran" && outcome.exitCode !== 0 && passing.test(outcome.stderr);
}

/** As libc, Linux, nft, iptables, ebtables, the dynamic linker and the starting of a process say it. */
const passing = new RegExp(
  [
    "cannot allocate|out of memory|memory allocation|no buffer space|failed to map segment",
    "temporarily unavailable|resource busy|interrupted|too many open files|no space left",
    "timed out|was killed|xtables lock|holding the lock",
    String.raw`\bE(?:AGAIN|NOMEM|MFILE|NFILE|BUSY|INTR|NOBUFS|NOSPC)\b`,
  ].join("|"),
  "i",
);

export function isPermission(outcome: Outcome): boolean {
  return (
    outcome.kind === "ran" && /operation not permitted|permission denied|must be root/i.test(outcome.stderr)
  );
}
