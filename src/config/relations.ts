import { canonicalAddress } from "./address.ts";
import type { JsonText } from "./json.ts";
import { configSchema } from "./schema.ts";
import { didYouMean } from "./suggest.ts";
import { callerAddressProblem, type HostPort, parseHostPort } from "./values.ts";

/** A conflict between keys that are valid by themselves. */
export type Conflict = {
  readonly path: readonly string[];
  readonly message: string;
  readonly hint: string;
  /** The conflict is about the key, so it is reported even if the value is invalid. */
  readonly ofKey?: true;
};

/** A configuration as written. It can be checked even if the schema rejects a part of it. */
export type Written = Pick<JsonText, "written">;

/** A file may have thousands; a longer list helps nobody. */
const namesListed = 20;
/** Each suggestion compares with every alias, and only the first 100 problems are shown anyway. */
const suggestionsMade = 100;

/** Finds every conflict in a configuration; pure. An alias counts as defined even if its ARN is invalid. */
export function relations(file: Written): readonly Conflict[] {
  return [
    ...aliasConflicts(file),
    ...addressConflicts(file),
    ...tagConflicts(file),
    ...engineConflicts(file),
    ...stsConflicts(file),
    ...portConflicts(file),
  ];
}

function aliasConflicts(file: Written): readonly Conflict[] {
  const short = new Set(file.written("aliasToARN", "*").map(({ path }) => path[1] ?? ""));
  const full = new Set(file.written("aliases", "*").map(({ path }) => path[1] ?? ""));
  const conflicts = [...full]
    .filter((alias) => short.has(alias))
    .map(
      (alias): Conflict => ({
        path: ["aliases", alias],
        message: `the alias "${alias}" is defined in aliasToARN too`,
        hint: "Keep the one in aliases, which can have more settings.",
        ofKey: true,
      }),
    );
  // If a section is not an object, its aliases cannot be read, so no alias can be called unknown.
  const unreadable = ["aliasToARN", "aliases"].some((key) =>
    file.written(key).some(({ kind }) => kind !== "object"),
  );
  if (unreadable) return conflicts;
  const aliases = [...new Set([...short, ...full])];
  const known = new Set([...aliases, ...misspelled(file)]);
  const uses = [...file.written("defaultAlias"), ...file.written("staticContainers", "*", "alias")];
  const listed = aliases.slice(0, namesListed).join(", ");
  const more = aliases.length > namesListed ? ` and ${aliases.length - namesListed} more` : "";
  const others = aliases.length === 0 ? "Define it in aliasToARN." : `Defined aliases: ${listed}${more}.`;
  let suggestions = 0;
  for (const { path, text } of uses) {
    if (text === undefined || text === "" || known.has(text)) continue;
    const suggestion = suggestions++ < suggestionsMade ? didYouMean(text, aliases) : "";
    const message = `expected an alias from aliasToARN or aliases, got "${text}"`;
    conflicts.push({ path, message, hint: suggestion || others });
  }
  return conflicts;
}

/** Names in unknown sections: those in a misspelled `aliasesToARN` are aliases once that is fixed. */
function misspelled(file: Written): readonly string[] {
  return file
    .written("*", "*")
    .filter(({ path: [section = ""] }) => !Object.hasOwn(configSchema.shape, section))
    .map(({ path }) => path[1] ?? "");
}

function addressConflicts(file: Written): readonly Conflict[] {
  const spellings = new Map<string, string>();
  const conflicts: Conflict[] = [];
  for (const { path } of file.written("staticContainers", "*")) {
    const [, spelling = ""] = path;
    const address = callerAddressProblem(spelling) === undefined ? canonicalAddress(spelling) : undefined;
    if (address === undefined) continue;
    const first = spellings.get(address);
    if (first === undefined) spellings.set(address, spelling);
    // The same spelling twice is reported as a duplicate key.
    else if (first !== spelling)
      conflicts.push({
        path,
        message: `"${spelling}" is the same address as "${first}"`,
        hint: `Keep only one, written "${address}".`,
        ofKey: true,
      });
  }
  return conflicts;
}

/** The rules of STS for session tags: at most 50, and keys are case-insensitive. */
function tagConflicts(file: Written): readonly Conflict[] {
  const keysOf = new Map<string, Set<string>>();
  for (const { path } of file.written("aliases", "*", "tags", "*")) {
    const [, alias = "", , key = ""] = path;
    const keys = keysOf.get(alias);
    if (keys === undefined) keysOf.set(alias, new Set([key]));
    else keys.add(key);
  }
  const tooMany = new Map<string, number>();
  const alike = new Set<string>();
  for (const [alias, keys] of keysOf) {
    if (keys.size > 50) tooMany.set(alias, keys.size);
    if (new Set([...keys].map((key) => key.toLowerCase())).size < keys.size) alike.add(alias);
  }
  return file.written("aliases", "*", "tags").flatMap(({ path }): Conflict[] => {
    const [, alias = ""] = path;
    const conflicts: Conflict[] = [];
    const count = tooMany.get(alias);
    if (count !== undefined)
      conflicts.push({ path, message: `expected at most 50 tags, got ${count}`, hint: "", ofKey: true });
    if (alike.has(alias))
      conflicts.push({
        path,
        message: "expected tag keys that differ in more than case",
        hint: "AWS treats them as the same key.",
        ofKey: true,
      });
    return conflicts;
  });
}

function engineConflicts(file: Written): readonly Conflict[] {
  const one = file.written("dockerHost").some(({ text }) => text !== "");
  const several = file.written("dockerHosts").length > 0;
  if (!one || !several) return [];
  return [
    {
      path: ["dockerHosts"],
      message: "dockerHost is set too",
      hint: "Move it into dockerHosts.",
      ofKey: true,
    },
  ];
}

/** The same conflicts that openSts rejects. */
function stsConflicts(file: Written): readonly Conflict[] {
  if (file.written("sts", "endpoint").length === 0) return [];
  return ["useFips", "useDualstack"].flatMap((key): Conflict[] =>
    file.written("sts", key).some(({ isTrue }) => isTrue)
      ? [
          {
            path: ["sts", key],
            message: "it selects an AWS endpoint, but sts.endpoint already names one",
            hint: "Set sts.endpoint to the URL of the FIPS or dual-stack endpoint, or remove sts.endpoint.",
          },
        ]
      : [],
  );
}

/** Two services cannot listen on the same port, except at different addresses. */
function portConflicts(file: Written): readonly Conflict[] {
  const services = [["listen"], ["containerCredentials", "listen"], ["metricsListen"]] as const;
  const taken: { readonly key: string; readonly text: string; readonly at: HostPort }[] = [];
  return services.flatMap((path): Conflict[] => {
    const key = path.join(".");
    const written = file.written(...path).at(-1);
    const text = written === undefined && key === "listen" ? defaultListen : written?.text;
    const at = parseHostPort(text ?? "");
    if (text === undefined || at === undefined) return [];
    const other = taken.find((each) => collide(each.at, at));
    taken.push({ key, text, at });
    if (other === undefined) return [];
    const message = `expected a port of its own, got "${text}", which conflicts with ${other.key} ("${other.text}")`;
    return [{ path, message, hint: "Choose another port." }];
  });
}

const defaultListen = configSchema.shape.listen.parse(undefined);

/** Whether the second one would fail with EADDRINUSE: no host, or an unspecified one, means every address. */
function collide(a: HostPort, b: HostPort): boolean {
  if (a.port !== b.port) return false;
  const [one, two] = [a, b].map(({ host }) => (host === undefined ? "::" : canonicalAddress(host)));
  if (one === two || one === "::" || two === "::") return true;
  const areV4 = [one, two].every((host) => host?.includes(":") === false);
  return areV4 && (one === "0.0.0.0" || two === "0.0.0.0");
}
