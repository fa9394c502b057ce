import { readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { configJsonSchema } from "../src/config/schema.ts";
import { prose, roff } from "./roff.ts";

// Writes the manual page of config.json to the path in its argument: docs/man/ec2metaproxy.json.5.in with
// every key of the schema.

/** The part of JSON Schema that configJsonSchema uses. */
type Schema = {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema | boolean;
};

function entries(properties: Readonly<Record<string, Schema>>, prefix: string): readonly string[] {
  return Object.entries(properties).flatMap(([key, schema]) => {
    const name = `${prefix}${key}`;
    const lines = [`.It Cm ${roff(name)}`, prose(schema.description ?? "As the global key of this name.")];
    if (schema.enum !== undefined)
      lines.push(`One of ${schema.enum.map((value) => roff(String(value))).join(", ")}.`);
    const { default: initial } = schema;
    if (initial !== undefined && typeof initial !== "object") {
      lines.push(`By default ${roff(JSON.stringify(initial).replaceAll('"', ""))}.`);
    }
    if (Array.isArray(initial) && initial.length > 0) {
      lines.push(`By default ${initial.map((value) => roff(String(value))).join(", ")}.`);
    }
    const below = schema.properties ?? valuesOf(schema)?.properties;
    if (below !== undefined) {
      lines.push(...entries(below, schema.properties === undefined ? `${name}.NAME.` : `${name}.`));
    }
    return lines;
  });
}

function valuesOf(schema: Schema): Schema | undefined {
  return typeof schema.additionalProperties === "object" ? schema.additionalProperties : undefined;
}

const [to] = process.argv.slice(2);
if (to === undefined)
  throw new Error("writing the manual page of config.json: the first argument must be the output path");
const page = readFileSync(`${dirname(import.meta.dirname)}/docs/man/ec2metaproxy.json.5.in`, "utf8");
const { properties = {} } = configJsonSchema() as Schema; // a JSON Schema; we read this part
const keys = entries(properties, "").filter((line) => line !== "");
writeFileSync(
  to,
  page.replace("@KEYS@", () => keys.join("\n")),
);
