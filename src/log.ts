/**
 * What code below `commands/` may say: one line an event, stable keys, then the message.
 * `observability/journal.ts` makes one; tests pass their own. Successes at debug, denials at info, our failures at warn or error.
 * Never a secret, a session token or a container's environment; an access key id may be logged.
 */
export type Log = {
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  error(fields: LogFields, message: string): void;
};

export type LogFields = Readonly<Record<string, unknown>>;
