import type * as z from "zod";
import type { JsonText, TextProblem } from "./json.ts";
import { configJsonSchema, recordValues } from "./schema.ts";
import { didYouMean } from "./suggest.ts";

/**
 * Converts the schema's issues to problems: one per mistake, with its place, the value found and what to do.
 */
export function problemsOf(error: z.ZodError, json: JsonText): readonly TextProblem[] {
  const { keysAt, purpose } = meanings();
  return withValues(error.issues, json.value).flatMap((issue): TextProblem[] => {
    const where = (path: readonly PropertyKey[]) => ({ line: json.line(path), path });
    switch (issue.code) {
      case "unrecognized_keys":
        return issue.keys.map((key) => ({
          ...where([...issue.path, key]),
          message: "unknown key",
          hint: didYouMean(key, keysAt(issue.path)) || "Delete it; ec2metaproxy.json(5) lists the keys.",
        }));
      case "invalid_key": {
        const detail = issue.issues[0]?.message ?? "expected another key";
        return [
          {
            ...where(issue.path),
            message: `${detail}, got "${String(issue.path.at(-1))}"`,
            hint: purpose(issue.path),
          },
        ];
      }
      case "invalid_value": {
        const values = issue.values.map(String);
        const got = valueAt(json.value, issue.path);
        return [
          {
            ...where(issue.path),
            message: `expected ${values.map((value) => `"${value}"`).join(" or ")}, got ${quote(got)}`,
            hint: (typeof got === "string" ? didYouMean(got, values) : "") || purpose(issue.path),
          },
        ];
      }
      case "invalid_union": {
        // The schema's unions are "empty string or the real type". Report the error of the real type.
        const detail = issue.errors.at(-1)?.[0];
        const message = issue.message.startsWith("expected")
          ? issue.message
          : (detail?.message ?? issue.message);
        return [
          {
            ...where(issue.path),
            message: got(lower(message), json, issue.path),
            hint: purpose(issue.path),
          },
        ];
      }
      default:
        return [
          {
            ...where(issue.path),
            message: got(lower(issue.message), json, issue.path),
            hint: purpose(issue.path),
          },
        ];
    }
  });
}

/**
 * The schema does not check the value of a key that it rejects. Check it here, so that its problems are
 * reported at once too.
 */
function withValues(issues: readonly z.core.$ZodIssue[], value: unknown): readonly z.core.$ZodIssue[] {
  return issues.flatMap((issue) => {
    const [section, key, ...deeper] = issue.path;
    const type = Object.entries(recordValues).find(([name]) => name === section)?.[1];
    if (issue.code !== "invalid_key" || type === undefined || deeper.length > 0) return [issue];
    const members = (value as Record<PropertyKey, Record<PropertyKey, unknown>>)[section as string]; // the schema found the key in it
    const more = type.safeParse(members?.[key as string]).error?.issues ?? []; // an own key of it
    return [issue, ...more.map((each) => ({ ...each, path: [...issue.path, ...each.path] }))];
  });
}

function got(message: string, json: JsonText, path: readonly PropertyKey[]): string {
  // For a wrong type, zod's message ends in ", received x". The value itself is more useful.
  const value = valueAt(json.value, path);
  const found =
    typeof value === "number" && !Number.isFinite(value)
      ? `${shortened(json.source(path) ?? String(value))}, which is out of range`
      : quote(value);
  return `${message.replace(/, received \w+$/, "")}, got ${found}`;
}

function lower(message: string): string {
  return message
    .replace(/^Invalid input: /, "")
    .replace(/^Too (?:small|big): /, "")
    .replace(/^[A-Z](?=[a-z])/, (first) => first.toLowerCase());
}

function quote(value: unknown): string {
  if (value === undefined) return "nothing";
  // JSON.stringify would turn an infinite number (out of range in the file) into null.
  return shortened(
    JSON.stringify(value, (_, part: unknown) =>
      part === Infinity || part === -Infinity ? String(part) : part,
    ),
  );
}

function shortened(text: string): string {
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}

/** A path in a problem: `aliases.db.roleArn`. */
export function pathText(path: readonly PropertyKey[]): string {
  return path.length === 0 ? "(whole file)" : path.map(String).join(".");
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  let at: unknown = value;
  for (const segment of path) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, segment)) return undefined;
    at = (at as Record<PropertyKey, unknown>)[segment]; // an own property was just seen
  }
  return at;
}

/**
 * Looks up keys and descriptions in the JSON Schema, where they are plain data. Built once for all problems
 * of a file.
 */
function meanings() {
  const root = configJsonSchema() as JsonSchema; // the three members that are walked here
  const at = (path: readonly PropertyKey[]): JsonSchema | undefined => {
    let schema: JsonSchema | undefined = root;
    for (const segment of path) schema = memberOf(schema, String(segment)) ?? schema?.additionalProperties;
    return schema;
  };
  return {
    /** The valid keys at a path, for suggestions. */
    keysAt: (path: readonly PropertyKey[]): readonly string[] => Object.keys(at(path)?.properties ?? {}),
    /** The description of a key: the hint if the mistake itself suggests none. */
    purpose: (path: readonly PropertyKey[]): string => {
      const description = at(path)?.description ?? at(path.slice(0, 1))?.description;
      return path.length === 0 || description === undefined ? "" : `Meaning: ${description}`;
    },
  };
}

function memberOf(schema: JsonSchema | undefined, key: string): JsonSchema | undefined {
  const { properties } = schema ?? {};
  return properties !== undefined && Object.hasOwn(properties, key) ? properties[key] : undefined;
}

type JsonSchema = {
  readonly description?: string;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly additionalProperties?: JsonSchema;
};
