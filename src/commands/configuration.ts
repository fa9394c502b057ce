import type { Overrides } from "../cli.ts";
import {
  type Check,
  configurationError,
  defaultConfigPath,
  loadConfig,
  parseConfig,
  readConfig,
  readConfigText,
} from "../config/load.ts";
import type { Conflict, Written } from "../config/relations.ts";
import type { Config } from "../config/schema.ts";
import { parseDockerHost } from "../engine/endpoint.ts";
import { exitCodes, explain, OperatorError, type Problem } from "../errors.ts";
import { categoryProblem } from "../imds/policy.ts";
import { templateProblem } from "../roles/template.ts";

/** The guard's socket on a host with the packages. */
export const packagedGuardSocket = "/run/ec2metaproxy-guard/containers.sock";

/** The alias that --default-iam-role defines. */
const flagAlias = "default-iam-role";

/** The flag that sets a key. metadataEndpoint has two; this is the one that the usage names first. */
const flagOf: ReadonlyMap<PropertyKey, string> = new Map([
  ["listen", "--server"],
  ["aliasToARN", "--default-iam-role"],
  ["defaultPolicy", "--default-iam-policy"],
  ["metadataEndpoint", "--metadata-url"],
  ["dockerHost", "--docker-endpoint"],
]);

/** The configuration of a run: the file, overridden by the predecessors' flags. */
export type Configuration = { readonly path: string; read(): Promise<Config> };

/**
 * @param path the value of -c; by default the packages' file, which may be absent where flags are given
 * @param use what the configuration is read for. `serve without a guard` has problems of its own.
 */
export function configuration(
  path: string | undefined,
  overrides: Overrides = {},
  use: "any" | "serve without a guard" = "any",
): Configuration {
  const checks = (written: Written) => [
    ...valueConflicts(written),
    ...(use === "serve without a guard" ? guardConflicts(written) : []),
  ];
  const file = path ?? defaultConfigPath;
  const flags = Object.keys(overrides).length > 0;
  return {
    path: file,
    read: async () => {
      if (!flags) return loadConfig(file, checks);
      const text = await readConfigText(file).catch((error: unknown) => {
        if (path === undefined && isFileMissing(error)) return "{}";
        throw error;
      });
      return overridden(text, file, overrides, checks);
    },
  };
}

function isFileMissing(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof Error && "code" in cause && cause.code === "ENOENT";
}

/** @throws OperatorError with all problems of file and flags: exit code 78 if the file has any, else 64 */
function overridden(text: string | Problem, file: string, overrides: Overrides, checks: Check): Config {
  const own = typeof text === "string" ? parseConfig(text, file, checks) : { ok: false, problems: [text] };
  const problems = own.ok ? [] : own.problems;
  const flags = flagProblems(overrides, checks);
  if (problems.length > 0) throw configurationError(file, [...problems, ...flags]);
  if (flags.length > 0) throw wrongFlags(flags);
  const raw = JSON.parse(String(text).replace(/^\uFEFF/, "")) as Record<string, unknown>; // it was just validated as an object
  const merged = parseConfig(JSON.stringify(merge(raw, overrides)), `the flags with ${file}`, checks);
  if (!merged.ok) throw wrongFlags(merged.problems);
  return merged.config;
}

function wrongFlags(problems: readonly Problem[]): OperatorError {
  return new OperatorError("the flags have problems", { problems, exitCode: exitCodes.usage });
}

/** The problems that the flags have on their own, whatever the file contains. */
function flagProblems(overrides: Overrides, checks: Check): readonly Problem[] {
  const alone = readConfig(JSON.stringify(merge({}, overrides)), checks);
  if (alone.ok) return [];
  return alone.problems.map(({ path, message, hint }) => ({
    where: flagOf.get(path?.[0] ?? "") ?? "the flags",
    message,
    hint,
  }));
}

/** The file's keys, overridden by the flags'. */
function merge(raw: Record<string, unknown>, overrides: Overrides): Record<string, unknown> {
  const { defaultRoleArn, passthrough, ...plain } = overrides;
  return {
    ...raw,
    ...plain,
    ...(defaultRoleArn !== undefined && {
      defaultAlias: flagAlias,
      aliasToARN: { ...(raw.aliasToARN as object | undefined), [flagAlias]: defaultRoleArn }, // validated below
    }),
    ...(passthrough === false && {
      passthrough: { ...(raw.passthrough as object | undefined), enabled: false },
    }), // validated below
  };
}

/** Without the guard there is no port lock, so nobody could ever be identified. */
function guardConflicts(file: Written): readonly Conflict[] {
  return file.written("identityProof").flatMap(({ path, text }) =>
    text === "address"
      ? [
          {
            path,
            message:
              '"address" relies on the port lock of the guard, and `serve` was started without --guard',
            hint: `Start it with --guard ${packagedGuardSocket}, or use "socket".`,
          },
        ]
      : [],
  );
}

/** Checks of values by the folders above config/, which config/ cannot import. */
function valueConflicts(file: Written): readonly Conflict[] {
  const conflicts: Conflict[] = [];
  const check = (pattern: readonly string[], problem: (text: string) => string | undefined, hint: string) => {
    for (const { path, text } of file.written(...pattern)) {
      const message = text === undefined ? undefined : problem(text);
      if (message !== undefined) conflicts.push({ path, message, hint });
    }
  };
  for (const pattern of [
    ["sessionName"],
    ["aliases", "*", "sessionName"],
    ["aliases", "*", "sourceIdentity"],
    ["aliases", "*", "tags", "*"],
  ]) {
    check(pattern, templateProblem, "ec2metaproxy.json(5) lists the placeholders.");
  }
  check(["passthrough", "allow", "*"], categoryProblem, "");
  const tls = file.written("dockerTls").length > 0;
  for (const pattern of [["dockerHost"], ["dockerHosts", "*"]]) {
    for (const { path, text } of file.written(...pattern)) {
      try {
        // The predecessor's files may contain an empty string where the key is not used.
        if (text !== undefined && text !== "") parseDockerHost(text, tls);
      } catch (error) {
        const hint = error instanceof OperatorError ? error.hint : "";
        conflicts.push({ path, message: explain(error), hint });
      }
    }
  }
  return conflicts;
}
