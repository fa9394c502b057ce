import { causeText } from "../credentials/diagnosis.ts";
import { engineTrouble } from "../engine/trouble.ts";
import type { HealthProblem } from "../observability/health.ts";
import { shortId } from "../roles/template.ts";
import { printable } from "../text.ts";
import type { ContainerStatus } from "./container-status.ts";
import { notLocked, type Status } from "./serve-status.ts";

/** What `status` prints for people. Escapes whole lines: names, engines' errors and roles are untrusted. */
export function statusText(now: Status): string {
  const { summary, version, uptimeSeconds, listening, configPath, configProblem, health, credentials } = now;
  const lines = [
    summary,
    "",
    `health       ${partsText(health.parts)}`,
    ...health.problems.flatMap((problem) => problemLines("PROBLEM", problem)),
    ...health.notes.flatMap((note) => problemLines("note", note)),
    `version      ${version}, running for ${duration(uptimeSeconds)}`,
    `listening    ${listening}`,
    `config       ${configPath}${configProblem === undefined ? "" : " (as it was before the reload that was refused)"}`,
    ...guardLines(now),
    ...now.engines.map((engine) => `engine       ${engine.host}: ${engineText(engine)}`),
    `STS          ${credentials.warm} sets of credentials ready, ${credentials.failing} failing, ${credentials.refused} refused; calls: ${credentials.state}`,
    "",
    ...now.containers.flatMap(containerLines),
  ];
  return lines.map(printable).join("\n");
}

function engineText(engine: Status["engines"][number]): string {
  const trouble = engineTrouble(engine);
  const known = engine.connected ? [`${engine.engine ?? "connected"}, ${engine.containers} containers`] : [];
  return [...known, ...(trouble === undefined ? [] : [trouble])].join("; ");
}

function partsText(parts: Status["health"]["parts"]): string {
  return Object.entries(parts)
    .map(([part, state]) => `${part} ${state === "failing" ? "FAILING" : state}`)
    .join(", ");
}

function problemLines(label: string, { part, message, hint }: HealthProblem): readonly string[] {
  const first = `${label.padEnd(12)} ${part}: ${message}`;
  return hint === "" ? [first] : [first, `${" ".repeat(13)}-> ${hint}`];
}

function guardLines({ guard, containers, identityProof }: Status): readonly string[] {
  if (guard === undefined) return [];
  const state = guard.connected
    ? `connected, version ${guard.version ?? "unknown"}`
    : `not connected: ${guard.lastError ?? "it has not answered yet"}`;
  const locked = containers.filter(({ protection }) => protection?.locked === true).length;
  const unlocked = notLocked({ containers }).length;
  return [
    `guard        ${guard.path}: ${state}`,
    `firewall     ${firewallText(guard)}`,
    `port lock    ${locked} containers locked, ${unlocked} not; identityProof is ${identityProof}`,
  ];
}

function firewallText({ connected, host }: NonNullable<Status["guard"]>): string {
  if (!connected) return "unknown: the guard is not connected";
  if (host === undefined) return "unknown: the guard has not said yet";
  const { state, since, reason } = host.firewall;
  const words = {
    "in-force": "rules in force",
    "not-in-force": "RULES NOT IN FORCE",
    "check-failed": "RULES CANNOT BE CHECKED",
    unknown: "unknown",
  }[state];
  return `${words} since ${new Date(since).toISOString()}${reason === "" ? "" : `: ${reason}`}`;
}

/** Who it is and which role it should have; then what it really gets. */
function containerLines(container: ContainerStatus): readonly string[] {
  const { name, id, role, reason, message, hint, state } = container;
  const lines = [
    `${name.padEnd(28)} ${shortId(id).padEnd(18)} ${role ?? `no role: ${reason ?? ""}`}${lockText(container)}`,
    `    ${[stateText(container), credentialsText(container), requestsText(container)].filter((text) => text !== "").join("; ")}`,
  ];
  if (message !== "" && state !== "no-role")
    lines.push(`    ${state === "failing" ? "PROBLEM: " : ""}${message}`);
  if (hint !== "" && state === "failing") lines.push(`    -> ${hint}`);
  const refusal = container.lastRefusal;
  if (refusal !== undefined)
    lines.push(`    last refused ${duration(refusal.secondsAgo)} ago (${refusal.code}): ${refusal.reason}`);
  return lines;
}

function stateText({ state }: ContainerStatus): string {
  return state === "failing" ? "NOT SERVED" : state === "no-role" ? "should have no role" : state;
}

function lockText({ protection }: ContainerStatus): string {
  if (protection === undefined) return "";
  return protection.locked ? " (locked)" : ` (not locked: ${protection.reason})`;
}

function credentialsText({ credentials, state }: ContainerStatus): string {
  if (credentials === undefined) return "";
  const { expiresInSeconds, refreshedSecondsAgo, lastError } = credentials;
  const parts: string[] = [];
  if (expiresInSeconds !== undefined)
    parts.push(
      expiresInSeconds > 0
        ? `credentials expire in ${duration(expiresInSeconds)}`
        : `credentials expired ${duration(-expiresInSeconds)} ago`,
    );
  if (refreshedSecondsAgo !== undefined) parts.push(`refreshed ${duration(refreshedSecondsAgo)} ago`);
  // Where it is failing, the problem below says it.
  if (lastError !== undefined && state !== "failing")
    parts.push(`last call failed ${duration(lastError.secondsAgo)} ago: ${causeText(lastError)}`);
  return parts.join(", ");
}

function requestsText({ requests, refusals }: ContainerStatus): string {
  return `${requests} requests, ${refusals} refused`;
}

/** `90 s`, `42 min`, `5 h 10 min`, `3 d 4 h`. */
export function duration(seconds: number): string {
  if (!(seconds >= 120)) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}
