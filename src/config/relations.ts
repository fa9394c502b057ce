import { canonicalAddress } from "./address.ts";
import type { JsonText } from "./json.ts";
import { configSchema } from "./schema.ts";
import { didYouMean } from "./suggest.ts";
import { callerAddressProblem } from "./values.ts";

/** What is wrong between keys that are each right by themselves. */
export type Conflict = {
  readonly path: readonly string[];
  readonly message: string;
  readonly hint: string;
  /** It is about the key, so it holds whatever else is wrong with the value. */
  readonly ofKey?: true;
};

/** A configuration as it is written: what can be said of it although the schema rejects a part. */
export type Written = Pick<JsonText, "written">;

/** More than these help nobody, and a file may have thousands. */
const namesListed = 20;

/** Every contradiction in a configuration; pure. An alias counts as defined when it is written, also with a wrong ARN. */
export function relations(file: Written): readonly Conflict[] {
  return [
    ...aliasConflicts(file),
    ...addressConflicts(file),
    ...tagConflicts(file),
    ...engineConflicts(file),
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
        hint: "Keep the one in aliases, which says more.",
        ofKey: true,
      }),
    );
  // A list in their place names aliases that we cannot read: whether one is unknown is not known.
  const unreadable = ["aliasToARN", "aliases"].some((key) =>
    file.written(key).some(({ kind }) => kind !== "object"),
  );
  if (unreadable) return conflicts;
  const aliases = [...new Set([...short, ...full])];
  const known = new Set([...aliases, ...misspelt(file)]);
  const uses = [...file.written("defaultAlias"), ...file.written("staticContainers", "*", "alias")];
  for (const { path, text } of uses) {
    if (text === undefined || text === "" || known.has(text)) continue;
    const listed = aliases.slice(0, namesListed).join(", ");
    const more = aliases.length > namesListed ? ` and ${aliases.length - namesListed} more` : "";
    conflicts.push({
      path,
      message: `expected an alias of aliasToARN or aliases, got "${text}"`,
      hint:
        didYouMean(text, aliases) ||
        (aliases.length === 0 ? "Define it in aliasToARN." : `There are: ${listed}${more}.`),
    });
  }
  return conflicts;
}

/** Names in sections that the schema does not know: in `aliasesToARN` they are aliases, once that is written correctly. */
function misspelt(file: Written): readonly string[] {
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
    // The same spelling twice is a key that stands twice.
    else if (first !== spelling)
      conflicts.push({
        path,
        message: `"${spelling}" is the address that "${first}" is, written another way`,
        hint: `Keep one of them, as "${address}".`,
        ofKey: true,
      });
  }
  return conflicts;
}

/** STS's rules for session tags: at most 50, and keys alike but for case are one key. */
function tagConflicts(file: Written): readonly Conflict[] {
  return file.written("aliases", "*", "tags").flatMap(({ path }): Conflict[] => {
    const [, alias = ""] = path;
    const keys = new Set(file.written("aliases", alias, "tags", "*").map(({ path }) => path[3] ?? ""));
    const different = new Set([...keys].map((key) => key.toLowerCase()));
    const conflicts: Conflict[] = [];
    if (keys.size > 50)
      conflicts.push({ path, message: `expected at most 50 tags, got ${keys.size}`, hint: "", ofKey: true });
    if (different.size < keys.size)
      conflicts.push({
        path,
        message: "expected tag keys that differ in more than case",
        hint: "To AWS they are one key.",
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
      message: "dockerHost is given too",
      hint: "Move it into dockerHosts.",
      ofKey: true,
    },
  ];
}
