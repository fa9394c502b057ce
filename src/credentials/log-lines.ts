import type { Log, LogFields } from "../log.ts";
import type { AssumeRoleError } from "./assume-role.ts";
import type { Credentials } from "./document.ts";
import type { Entry } from "./entry.ts";

// One line a change of state, never one a request or a call: at 3 a.m. the log must still say when it began.

export function logSuccess(log: Log, entry: Entry, credentials: Credentials): void {
  const before = entry.logged;
  entry.logged = "ok";
  const fields = {
    ...fieldsOf(entry),
    accessKeyId: credentials.accessKeyId,
    lifetimeMs: credentials.lifetimeMs,
  };
  if (before === "ok" || before === "new") log.debug(fields, "assumed the role");
  else log.info(fields, "assumed the role: it works again");
}

export function logRefusal(log: Log, entry: Entry, error: AssumeRoleError, valid: boolean): void {
  const state = `refused ${error.code}` as const;
  if (entry.logged === state) return;
  entry.logged = state;
  log.warn({ ...fieldsOf(entry), ...reasonOf(error), stillValid: valid }, "assuming the role: refused");
}

export function logFailure(log: Log, entry: Entry, error: AssumeRoleError, valid: boolean): void {
  // One failure is the network's daily noise, and the next attempt is a moment away.
  if (entry.failures < 2 || entry.logged === "failing") return;
  entry.logged = "failing";
  log.warn(
    { ...fieldsOf(entry), ...reasonOf(error), stillValid: valid },
    "assuming the role: no answer; trying again",
  );
}

export function logExpired(log: Log, entry: Entry): void {
  log.error(
    { ...fieldsOf(entry), ...(entry.lastError && reasonOf(entry.lastError)) },
    "credentials have expired and could not be renewed: containers get 503",
  );
  entry.logged = "failing";
}

function reasonOf({ code, message, httpStatus }: AssumeRoleError): LogFields {
  return { code, reason: message, ...(httpStatus !== undefined && { httpStatus }) };
}

function fieldsOf(entry: Entry): LogFields {
  return { roleArn: entry.request.roleArn, sessionName: entry.request.sessionName };
}
