import { readFile } from "node:fs/promises";
import type { Overrides } from "../cli.ts";
import { defaultConfigPath, loadConfig, parseConfig } from "../config/load.ts";
import type { Conflict } from "../config/relations.ts";
import type { Config } from "../config/schema.ts";
import { parseDockerHost } from "../containers/endpoint.ts";
import { exitCodes, explain, OperatorError } from "../errors.ts";
import { categoryProblem } from "../imds/policy.ts";
import { templateProblem } from "../roles/template.ts";

/** The alias that --default-iam-role makes. */
const flagAlias = "default-iam-role";

/** The configuration of a run: the file, overruled by the predecessors' flags. */
export type Configuration = { readonly path: string; read(): Promise<Config> };

/**
 * @param path as given by -c; without it the packages' file, which need not exist where flags say it all
 */
export function configuration(path: string | undefined, overrides: Overrides = {}): Configuration {
  const file = path ?? defaultConfigPath;
  const flags = Object.keys(overrides).length > 0;
  return {
    path: file,
    read: async () => {
      if (!flags) return loadConfig(file, checks);
      const absent = path === undefined && (await isAbsent(file));
      return overrule(absent ? {} : await rawOf(file), overrides);
    },
  };
}

async function isAbsent(file: string): Promise<boolean> {
  return readFile(file).then(
    () => false,
    (error: NodeJS.ErrnoException) => error.code === "ENOENT",
  );
}

/** The file as written, after it was found to be valid. */
async function rawOf(file: string): Promise<Record<string, unknown>> {
  await loadConfig(file, checks);
  return JSON.parse(await readFile(file, "utf8")) as Record<string, unknown>; // it was just validated as an object
}

function overrule(raw: Record<string, unknown>, overrides: Overrides): Config {
  const { defaultRoleArn, passthrough, ...plain } = overrides;
  const merged = {
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
  const config = parseConfig(JSON.stringify(merged), "the command line", checks);
  if (!Array.isArray(config)) return config as Config; // Array.isArray does not narrow readonly arrays
  throw new OperatorError("the flags have problems", { problems: config, exitCode: exitCodes.usage });
}

/** What the folders above config/ have to say about its values. */
function checks(config: Config): readonly Conflict[] {
  const conflicts: Conflict[] = [];
  const add = (path: readonly string[], message: string | undefined, hint = "") => {
    if (message !== undefined) conflicts.push({ path, message, hint });
  };
  const template = (path: readonly string[], text: string | undefined) =>
    add(
      path,
      text === undefined ? undefined : templateProblem(text),
      "ec2metaproxy.json(5) lists the placeholders.",
    );
  template(["sessionName"], config.sessionName);
  for (const [name, alias] of Object.entries(config.aliases)) {
    template(["aliases", name, "sessionName"], alias.sessionName);
    template(["aliases", name, "sourceIdentity"], alias.sourceIdentity);
    for (const [key, value] of Object.entries(alias.tags ?? {}))
      template(["aliases", name, "tags", key], value);
  }
  for (const list of ["allow", "deny"] as const) {
    for (const [index, category] of config.passthrough[list].entries()) {
      add(["passthrough", list, String(index)], list === "allow" ? categoryProblem(category) : undefined);
    }
  }
  const hosts = config.dockerHosts ?? (config.dockerHost === undefined ? [] : [config.dockerHost]);
  for (const host of hosts) {
    const path = config.dockerHosts === undefined ? ["dockerHost"] : ["dockerHosts"];
    try {
      parseDockerHost(host, config.dockerTls !== undefined);
    } catch (error) {
      add(path, explain(error), error instanceof OperatorError ? error.hint : "");
    }
  }
  return conflicts;
}
