import type { Config } from "./schema.ts";
import { didYouMean } from "./suggest.ts";

/** What is wrong between keys that are each right by themselves. */
export type Conflict = { readonly path: readonly string[]; readonly message: string; readonly hint: string };

/** Every contradiction in a configuration; pure. */
export function relations(config: Config): readonly Conflict[] {
  const aliases = [...new Set([...Object.keys(config.aliasToARN), ...Object.keys(config.aliases)])];
  const unknown = (path: readonly string[], alias: string): Conflict => ({
    path,
    message: `expected an alias of aliasToARN or aliases, got "${alias}"`,
    hint:
      didYouMean(alias, aliases) ||
      (aliases.length === 0 ? "Define it in aliasToARN." : `There are: ${aliases.join(", ")}.`),
  });
  const conflicts: Conflict[] = [];
  if (config.defaultAlias !== undefined && !aliases.includes(config.defaultAlias)) {
    conflicts.push(unknown(["defaultAlias"], config.defaultAlias));
  }
  for (const [address, { alias }] of Object.entries(config.staticContainers)) {
    if (alias !== undefined && !aliases.includes(alias))
      conflicts.push(unknown(["staticContainers", address, "alias"], alias));
  }
  for (const alias of Object.keys(config.aliases).filter((name) => Object.hasOwn(config.aliasToARN, name))) {
    conflicts.push({
      path: ["aliases", alias],
      message: `the alias "${alias}" is defined in aliasToARN too`,
      hint: "Keep the one in aliases, which says more.",
    });
  }
  if (config.dockerHost !== undefined && config.dockerHosts !== undefined) {
    conflicts.push({
      path: ["dockerHosts"],
      message: "dockerHost is given too",
      hint: "Move it into dockerHosts.",
    });
  }
  return conflicts;
}
