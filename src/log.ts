import type { LogCode } from "./log-codes.ts";

/**
 * The log: one line per event, with stable keys. `observability/journal.ts` implements it; tests pass their
 * own. Successes at debug, denials at info, our failures at warn or error. Never log a secret, a session
 * token or a container's environment. An access key id may be logged.
 */
export type Log = {
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: CodedFields, message: string): void;
  error(fields: CodedFields, message: string): void;
};

/** Whoever is woken up by a line finds it by its code in ec2metaproxy-refusals(7). */
type CodedFields = LogFields & { readonly code: LogCode };

export type LogFields = Readonly<Record<string, unknown>>;
