import { didYouMean } from "../config/suggest.ts";
import { exitCodes, OperatorError, type Problem } from "../errors.ts";
import type { Backend } from "../firewall/backend.ts";
import type { Run } from "../firewall/command.ts";
import { withEngineBridges } from "../firewall/engine-bridges.ts";
import { uidsOf } from "../firewall/host-users.ts";
import type { FrameFilter } from "../firewall/layer2.ts";
import { parseSettings } from "../firewall/parse-settings.ts";
import { readSettingsFiles } from "../firewall/read-settings.ts";
import { type Ruleset, ruleset } from "../firewall/ruleset.ts";
import type { Ports, Settings } from "../firewall/settings.ts";
import { backendsHere, frameFilters } from "./firewall-filters.ts";

/** What every action works with: valid settings, the rules they mean on this host, and the host's filters. */
export type FirewallPlan = {
  readonly ok: true;
  /** --backend, else the settings' BACKEND. */
  readonly wanted: "auto" | Backend["name"];
  readonly settings: Settings;
  readonly rules: Ruleset;
  /** The filters for packets, in the order of preference. */
  readonly backends: readonly Backend[];
  /** The filters for frames, in the order of preference. */
  readonly frames: readonly FrameFilter[];
  readonly run: Run;
};

/**
 * Reads the settings and looks up their users; or returns every problem that they have.
 * @param engineBridges names of bridges that are covered in addition to INTERFACES
 */
export async function planFirewall(
  settingsDirectory: string,
  backend: Backend["name"] | undefined,
  ports: Ports,
  engineBridges: readonly string[],
  run: Run,
): Promise<FirewallPlan | { readonly ok: false; readonly problems: readonly Problem[] }> {
  const { files, problems } = await readSettingsFiles(settingsDirectory);
  const parsed = parseSettings(files, ports, didYouMean);
  if (!parsed.ok) return { ok: false, problems: [...problems, ...parsed.problems] };
  if (problems.length > 0) return { ok: false, problems };
  const settings = withEngineBridges(parsed.settings, engineBridges);
  const users = await uidsOf(run, settings.hostAccess);
  if (!users.ok) return users;
  return {
    ok: true,
    wanted: backend ?? settings.backend,
    settings,
    rules: ruleset(settings, users.uids),
    backends: backendsHere(run),
    frames: frameFilters(run),
    run,
  };
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
