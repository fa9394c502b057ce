import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { STSClient } from "@aws-sdk/client-sts";
import { fromInstanceMetadata } from "@aws-sdk/credential-providers";

/**
 * The AWS SDK for JavaScript v3: fromInstanceMetadata() in default settings. Commands on stdin, an answer in
 * JSON on stdout for each.
 */
const manifest = createRequire(import.meta.url).resolve("@aws-sdk/credential-providers/package.json");
const { version } = JSON.parse(readFileSync(manifest, "utf8")) as { version: string }; // every package.json has one
let held = fromInstanceMetadata();
// The cache is a service's client's, not the provider's.
const service = new STSClient({ region: "eu-west-1", credentials: fromInstanceMetadata() });

say({ ready: `@aws-sdk/credential-providers ${version}` });
for await (const line of createInterface({ input: process.stdin })) {
  if (line === "region") {
    say({ unsupported: "the SDK asks IMDS for a region only in defaultsMode auto" });
    continue;
  }
  try {
    if (line === "credentials") held = fromInstanceMetadata();
    const { accessKeyId, secretAccessKey, sessionToken } = await (line === "held"
      ? service.config.credentials()
      : held());
    say({ accessKeyId, secretAccessKey, token: sessionToken });
  } catch (error) {
    say({ error: String(error) });
  }
}

function say(answer: Readonly<Record<string, unknown>>): void {
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
