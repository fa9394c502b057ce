import { join } from "node:path";
import type { Environment } from "../config/load.ts";
import { type ExitCode, exitCodes, OperatorError } from "../errors.ts";
import { adminSocketName, askAdmin } from "../observability/admin.ts";
import { shortId } from "../roles/template.ts";
import { jsonText, printable } from "../text.ts";
import { notLocked, type Status } from "./serve-status.ts";

/** systemd's RuntimeDirectory= of the packaged service. */
export const packagedRuntimeDirectory = "/run/ec2metaproxy";

/**
 * Prints the status of the running proxy. Exit code 1 where the guard or an engine is not connected, STS
 * fails, or a container is refused for want of a lock.
 */
export async function status(
  options: { readonly json: boolean },
  environment: Pick<Environment, "runtimeDirectory">,
  print: (text: string) => void,
): Promise<ExitCode> {
  const directory = environment.runtimeDirectory ?? packagedRuntimeDirectory;
  const now = statusAnswer(await askAdmin(join(directory, adminSocketName)));
  print(options.json ? jsonText(now) : text(now));
  return now.healthy ? exitCodes.ok : exitCodes.failed;
}

/**
 * Checks only the lists that `text` iterates: the answer comes from the same program.
 * @throws OperatorError for another form: after an upgrade, the process of the previous version may still run
 */
function statusAnswer(answer: unknown): Status {
  const lists = ["engines", "containers"].every(
    (key) =>
      typeof answer === "object" &&
      answer !== null &&
      Array.isArray((answer as Record<string, unknown>)[key]), // an object
  );
  if (lists) return answer as Status; // whatever else it lacks is shown as undefined
  throw new OperatorError("the proxy's answer has a form that this version does not know", {
    exitCode: exitCodes.unavailable,
    hint: "Is another version running? systemctl restart ec2metaproxy",
  });
}

/** A proxy of a version without the guard sends none of this. */
function guardLines({ guard, containers, identityProof }: Status): readonly string[] {
  if (guard === undefined) return [];
  const state = guard.connected
    ? `connected, version ${guard.version ?? "unknown"}`
    : `not connected: ${guard.lastError ?? "it has not answered yet"}`;
  const locked = containers.filter(({ protection }) => protection?.locked === true).length;
  const unlocked = notLocked({ containers }).length;
  return [
    `guard        ${guard.path}: ${state}`,
    `port lock    ${locked} containers locked, ${unlocked} not; identityProof is ${identityProof}`,
  ];
}

function lockText({ protection }: Status["containers"][number]): string {
  return protection?.locked === false ? ` (not locked: ${protection.reason})` : "";
}

/** Escapes whole lines, since names, engines' errors and roles are untrusted. */
function text(now: Status): string {
  const lines = [
    `${now.summary}`,
    "",
    `version      ${now.version}, running for ${now.uptimeSeconds} s`,
    `listening    ${now.listening}`,
    `config       ${now.configPath}${now.configProblem === undefined ? "" : ` (the last reload was refused: ${now.configProblem})`}`,
    ...guardLines(now),
    ...now.engines.map(
      (engine) =>
        `engine       ${engine.host}: ${engine.connected ? `${engine.engine ?? "connected"}, ${engine.containers} containers` : `not connected: ${engine.lastError ?? "not tried yet"}`}`,
    ),
    `STS          ${now.credentials.state}; ${now.credentials.warm} sets of credentials ready, ${now.credentials.failing} failing, ${now.credentials.refused} refused`,
    // A proxy of an older version sends none.
    ...(now.credentials.problems ?? []).map(
      ({ cause, reason, roleArns, cure }) =>
        `             ${cause} (${roleArns.slice(0, 3).join(", ")}${roleArns.length > 3 ? " …" : ""}): ${reason}. ${cure}`,
    ),
    "",
    ...now.containers.map(
      (container) =>
        `${container.name.padEnd(28)} ${shortId(container.id).padEnd(18)} ${container.role ?? `no role: ${container.reason ?? ""}`}${lockText(container)}`,
    ),
  ];
  return lines.map(printable).join("\n");
}
