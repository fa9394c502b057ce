import type { Environment } from "../config/load.ts";
import { type ExitCode, exitCodes, OperatorError } from "../errors.ts";
import type { Log } from "../log.ts";
import { hostClocks } from "./clocks.ts";
import { configuration } from "./configuration.ts";
import { explain } from "./explain.ts";
import { takeInventory } from "./inventory.ts";

/** `explain` with this host's configuration and engines. */
export async function explainHere(
  options: { readonly configPath: string | undefined; readonly container: string; readonly json: boolean },
  environment: Environment,
  print: (text: string) => void,
  log: Log,
): Promise<ExitCode> {
  const file = configuration(options.configPath);
  const config = await file.read();
  const { directory, engines } = await takeInventory(config, environment, log, hostClocks());
  const find = async (idOrName: string) => {
    const found = directory.byId(idOrName);
    const absent = engines.find(({ connected }) => !connected);
    if (found.length > 0 || absent === undefined) return found;
    // "No such container" would be a guess while an engine does not answer.
    throw new OperatorError(`asking the engine ${absent.host}: ${absent.lastError ?? "no answer"}`, {
      exitCode: exitCodes.unavailable,
      hint: "Is it running, and may this user open its socket (group docker)?",
    });
  };
  return explain(
    { container: options.container, json: options.json, configPath: file.path },
    config,
    find,
    print,
  );
}
