import { didYouMean } from "../config/suggest.ts";
import { exitCodes, OperatorError, type Problem } from "../errors.ts";
import type { Run } from "../firewall/command.ts";
import { uidsOf } from "../firewall/host-users.ts";
import { parseSettings } from "../firewall/parse-settings.ts";
import { readSettingsFiles } from "../firewall/read-settings.ts";
import { type Ruleset, ruleset } from "../firewall/ruleset.ts";
import type { Ports, Settings } from "../firewall/settings.ts";

/** Settings without a mistake, and the rules that they mean on this host. */
export type Prepared = { readonly settings: Settings; readonly rules: Ruleset };

/** Reads the settings, looks their users up, or says all that is wrong with them. */
export async function prepare(
  settingsDirectory: string,
  ports: Ports,
  run: Run,
): Promise<Prepared | { readonly problems: readonly Problem[] }> {
  const { files, problems } = await readSettingsFiles(settingsDirectory);
  const parsed = parseSettings(files, ports, didYouMean);
  if (!parsed.ok) return { problems: [...problems, ...parsed.problems] };
  if (problems.length > 0) return { problems };
  const { settings } = parsed;
  const users = await uidsOf(run, settings.hostAccess);
  if (!users.ok) return { problems: users.problems };
  return { settings, rules: ruleset(settings, users.uids) };
}

export function settingsError(
  settingsDirectory: string,
  applying: boolean,
  problems: readonly Problem[],
): OperatorError {
  const count = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
  const kept = applying ? "; the rules in force were not changed" : "";
  return new OperatorError(`the firewall settings in ${settingsDirectory} have ${count}${kept}`, {
    problems,
    hint: "ec2metaproxy-firewall.conf(5) explains each setting.",
    exitCode: exitCodes.configuration,
  });
}
