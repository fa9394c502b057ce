import { loadConfig, parseConfig } from "../../../src/config/load.ts";
import type { Config } from "../../../src/config/schema.ts";
import { OperatorError, report } from "../../../src/errors.ts";

export const role = "arn:aws:iam::123456789012:role/db";

function parse(value: string | object) {
  return parseConfig(typeof value === "string" ? value : JSON.stringify(value, null, 2), "config.json");
}

/** @throws if the configuration has problems */
export function validConfig(value: string | object): Config {
  const parsed = parse(value);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  return parsed.config;
}

/** The problems of a configuration, each as `WHERE: MESSAGE|HINT`. */
export function problemsIn(value: string | object): readonly string[] {
  const parsed = parse(value);
  return parsed.ok ? [] : parsed.problems.map(({ where, message, hint }) => `${where}: ${message}|${hint}`);
}

/** What the operator reads about a rejected file. Fails if the file is accepted, or if the error is a bug. */
export async function refusal(path: string): Promise<string> {
  const error: unknown = await loadConfig(path).then(
    () => new Error("the file was accepted"),
    (error: unknown) => error,
  );
  if (!(error instanceof OperatorError)) throw error;
  if (error.exitCode !== 78) throw new Error(`exit code ${error.exitCode}`);
  return report(error);
}
