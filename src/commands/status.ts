import { join } from "node:path";
import type { Environment } from "../config/load.ts";
import { type ExitCode, exitCodes, OperatorError, report } from "../errors.ts";
import { adminSocketName, askAdmin } from "../observability/admin.ts";
import { jsonText } from "../text.ts";
import type { Status } from "./serve-status.ts";
import { statusText } from "./status-text.ts";

/** systemd's RuntimeDirectory= of the packaged service. */
export const packagedRuntimeDirectory = "/run/ec2metaproxy";

export type StatusOptions = {
  readonly json: boolean;
  /** Print the status again and again. */
  readonly watch: boolean;
};

export type Watching = {
  /** Resolves after `ms`, or at once with false where the command is to end. */
  readonly next: (ms: number) => Promise<boolean>;
  /** Clears the terminal before each round; undefined where the output is none. */
  readonly clear: (() => void) | undefined;
};

const watchEveryMs = 2_000;

/** Prints the status of the running proxy. Exit code 1 where it is not healthy. */
export async function status(
  options: StatusOptions,
  environment: Pick<Environment, "runtimeDirectory">,
  print: (text: string) => void,
  watching?: Watching,
): Promise<ExitCode> {
  const directory = environment.runtimeDirectory ?? packagedRuntimeDirectory;
  const ask = async () => statusAnswer(await askAdmin(join(directory, adminSocketName)));
  if (!options.watch || watching === undefined) {
    const now = await ask();
    print(options.json ? jsonText(now) : statusText(now));
    return now.healthy ? exitCodes.ok : exitCodes.failed;
  }
  return watch(options, ask, print, watching);
}

/** A proxy that does not answer is a state like others: a restart must not end the watch. */
async function watch(
  { json }: StatusOptions,
  ask: () => Promise<Status>,
  print: (text: string) => void,
  { next, clear }: Watching,
): Promise<ExitCode> {
  for (;;) {
    let text: string;
    let code: ExitCode;
    try {
      const now = await ask();
      // One line for each round, for a program that reads them.
      text = json ? JSON.stringify(now) : statusText(now);
      code = now.healthy ? exitCodes.ok : exitCodes.failed;
    } catch (error) {
      if (!(error instanceof OperatorError)) throw error;
      text = json ? JSON.stringify({ healthy: false, error: report(error) }) : report(error);
      code = error.exitCode;
    }
    if (!json) clear?.();
    print(json || clear !== undefined ? text : `${text}\n`);
    if (!(await next(watchEveryMs))) return code;
  }
}

/**
 * Checks only the lists that `statusText` iterates: the answer comes from the same program.
 * @throws OperatorError for another form: after an upgrade, the process of the previous version may still run
 */
function statusAnswer(answer: unknown): Status {
  const lists = [
    member(answer, "engines"),
    member(answer, "containers"),
    member(member(answer, "health"), "problems"),
    member(member(answer, "health"), "notes"),
  ];
  // Whatever else it lacks is shown as undefined.
  if (lists.every(Array.isArray)) return answer as Status;
  throw new OperatorError("the proxy's answer has a form that this version does not know", {
    exitCode: exitCodes.unavailable,
    hint: "Is another version running? systemctl restart ec2metaproxy",
  });
}

function member(of: unknown, key: string): unknown {
  return typeof of === "object" && of !== null ? Reflect.get(of, key) : undefined;
}
