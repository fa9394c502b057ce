import { writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { configJsonSchema } from "../src/config/schema.ts";

// Writes packaging/config.schema.json, for editors, from the schema that the program validates with. The
// package ships it.

const schema = { title: "ec2metaproxy config.json", ...configJsonSchema() };
const path = `${dirname(import.meta.dirname)}/packaging/config.schema.json`;
writeFileSync(path, `${JSON.stringify(schema, undefined, 2)}\n`);
