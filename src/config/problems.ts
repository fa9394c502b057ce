import type * as z from "zod";
import type { Problem } from "../errors.ts";
import type { JsonText } from "./json.ts";
import { configJsonSchema } from "./schema.ts";
import { didYouMean } from "./suggest.ts";

/** A schema's issues as problems: one for each mistake, with where it stands, the value found and what to do. */
export function problemsOf(error: z.ZodError, json: JsonText, file: string): readonly Problem[] {
  const issues = error.issues.toSorted((a, b) => json.line(a.path) - json.line(b.path));
  return issues.flatMap((issue): Problem[] => {
    const where = (path: readonly PropertyKey[]) => `${file}:${json.line(path)}: ${pathText(path)}`;
    switch (issue.code) {
      case "unrecognized_keys":
        return issue.keys.map((key) => ({
          where: where([...issue.path, key]),
          message: "no such key",
          hint: didYouMean(key, keysAt(issue.path)) || "Delete it; ec2metaproxy.json(5) lists the keys.",
        }));
      case "invalid_key": {
        const detail = issue.issues[0]?.message ?? "expected another key";
        return [
          {
            where: where(issue.path),
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
            where: where(issue.path),
            message: `expected ${values.map((value) => `"${value}"`).join(" or ")}, got ${quote(got)}`,
            hint: (typeof got === "string" ? didYouMean(got, values) : "") || purpose(issue.path),
          },
        ];
      }
      case "invalid_union": {
        // The schema's unions are "empty, or the real thing": what the real thing says is what helps.
        const detail = issue.errors.at(-1)?.[0];
        const message = issue.message.startsWith("expected")
          ? issue.message
          : (detail?.message ?? issue.message);
        return [
          {
            where: where(issue.path),
            message: got(lower(message), json, issue.path),
            hint: purpose(issue.path),
          },
        ];
      }
      default:
        return [
          {
            where: where(issue.path),
            message: got(lower(issue.message), json, issue.path),
            hint: purpose(issue.path),
          },
        ];
    }
  });
}

function got(message: string, json: JsonText, path: readonly PropertyKey[]): string {
  // zod's own sentence for a wrong type ends in ", received x"; the value itself says more.
  return `${message.replace(/, received \w+$/, "")}, got ${quote(valueAt(json.value, path))}`;
}

function lower(message: string): string {
  return message
    .replace(/^Invalid input: /, "")
    .replace(/^Too (?:small|big): /, "")
    .replace(/^[A-Z](?=[a-z])/, (first) => first.toLowerCase());
}

function quote(value: unknown): string {
  if (value === undefined) return "nothing";
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}

function pathText(path: readonly PropertyKey[]): string {
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

/** The keys that the schema knows at a path, for suggestions. */
function keysAt(path: readonly PropertyKey[]): readonly string[] {
  return Object.keys(schemaAt(path)?.properties ?? {});
}

/** What a key is for, in the schema's words: the hint where the mistake itself suggests none. */
function purpose(path: readonly PropertyKey[]): string {
  const description = schemaAt(path)?.description ?? schemaAt(path.slice(0, 1))?.description;
  return path.length === 0 || description === undefined ? "" : `Meaning: ${description}`;
}

/** The part of the JSON Schema, which has all this as plain data, at a path. */
function schemaAt(path: readonly PropertyKey[]): JsonSchema | undefined {
  let schema: JsonSchema | undefined = configJsonSchema() as JsonSchema; // the two members that are walked here
  for (const segment of path) {
    const of: JsonSchema | undefined = schema?.properties?.[String(segment)] ?? schema?.additionalProperties;
    schema = of;
  }
  return schema;
}

type JsonSchema = {
  readonly description?: string;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly additionalProperties?: JsonSchema;
};
