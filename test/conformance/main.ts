import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { account } from "../support/aws/account.ts";
import { startAws } from "../support/aws/aws.ts";
import { examine, type Report } from "./cases.ts";
import { clientsIn, lacking } from "./clients.ts";
import { startProxy } from "./proxy.ts";
import { documentOf, tableOf } from "./report.ts";

/**
 * Every SDK that is installed in a folder (scripts/test-sdks does that), through the real proxy before the stand-ins of IMDS and STS:
 * node test/conformance/main.ts FOLDER [--write]. Writes docs/conformance.md only when every client was there.
 */
const [folder = "", ...flags] = process.argv.slice(2);
const only = flags.find((flag) => flag.startsWith("--only="))?.slice("--only=".length);
const roleArn = (name: string) => `arn:aws:iam::${account.id}:role/containers/${name}`;

async function main(): Promise<void> {
  await using aws = await startAws({ sts: { deny: [roleArn("Refused")] }, imds: { record: 0 } });
  const config = (alias: string | undefined, more: Readonly<Record<string, unknown>> = {}) => ({
    metadataEndpoint: aws.imds.url,
    sts: { endpoint: aws.sts.url, region: account.region },
    aliasToARN: {
      own: roleArn("Conformance"),
      refused: roleArn("Refused"),
      down: roleArn("Conformance-Down"),
    },
    staticContainers: { "127.0.0.1": { name: "client", ...(alias !== undefined && { alias }) } },
    ...more,
  });
  const stageOf = async (more: Readonly<Record<string, unknown>>) => ({
    aws,
    role: await startProxy(config("own", more)),
    none: await startProxy(config(undefined, more)),
    refused: await startProxy(config("refused", more)),
    down: await startProxy(config("down", more)),
    arn: new RegExp(`^arn:aws:sts::${account.id}:assumed-role/Conformance(-Down)?/`),
    downRole: roleArn("Conformance-Down"),
  });
  const reports: Report[] = [];
  const missing: string[] = [];
  const clients = clientsIn(folder).filter(({ name }) => only === undefined || name.includes(only));
  for (const v1 of [false, true]) {
    const some = clients.filter((client) => (client.v1 ?? false) === v1);
    if (some.length === 0) continue;
    const stage = await stageOf(v1 ? { httpTokens: "optional" } : {});
    try {
      for (const client of some) {
        const lacks = await lacking(client);
        if (lacks !== undefined) {
          missing.push(`${client.name}: ${lacks} is not there`);
          continue;
        }
        const started = Date.now();
        const report = await examine(client, stage);
        reports.push(report);
        const wrong = [...report.results].filter(([, { verdict }]) => verdict === "wrong");
        say(
          `${wrong.length === 0 ? "ok    " : "FAILED"}  ${client.name}: ${report.version}, ${((Date.now() - started) / 1000).toFixed(1)} s`,
        );
        for (const [title, { note }] of wrong) say(`          ${title}: ${note.slice(0, 300)}`);
      }
    } finally {
      for (const proxy of [stage.role, stage.none, stage.refused, stage.down])
        await proxy[Symbol.asyncDispose]();
    }
  }
  say(`\n${tableOf(reports)}\n`);
  for (const line of missing) say(`not run: ${line}`);
  if (flags.includes("--write") && only === undefined) {
    await writeFile(join(import.meta.dirname, "../../docs/conformance.md"), documentOf(reports, missing));
    say("docs/conformance.md written");
  }
  const failed = reports.some(({ results }) =>
    [...results.values()].some(({ verdict }) => verdict === "wrong"),
  );
  if (failed || reports.length === 0) process.exitCode = 1;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

await main();
