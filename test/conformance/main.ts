import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { account } from "../support/aws/account.ts";
import { startAws } from "../support/aws/aws.ts";
import { localProxy } from "../support/local-proxy.ts";
import { startProxy } from "../support/proxy.ts";
import { examine, examineRenewal, type Report, type Result, type Title } from "./cases.ts";
import { type Client, clientsIn, lacking } from "./clients.ts";
import { examineCloudInit } from "./cloud-init.ts";
import { shortSessionSeconds } from "./renewal.ts";
import { documentOf, tableOf } from "./report.ts";

/**
 * Runs every SDK that scripts/test-sdks installed in a folder, through the real proxy with the stand-ins of
 * IMDS and STS: node test/conformance/main.ts FOLDER [--write] [--only=NAME]. --write writes
 * docs/conformance.md, unless --only is given.
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
      short: roleArn("Conformance-Short"),
      refused: roleArn("Refused"),
      down: roleArn("Conformance-Down"),
    },
    staticContainers: { "127.0.0.1": { name: "client", ...(alias !== undefined && { alias }) } },
    ...more,
  });
  const start = async (alias: string | undefined, more?: Readonly<Record<string, unknown>>) => {
    const runner = await localProxy();
    const listen = `127.0.0.1:${runner.port}`;
    return startProxy(runner, { listen, dockerHost: "/nonexistent/docker.sock", ...config(alias, more) });
  };
  aws.sts.faults.setFor(roleArn("Conformance-Short"), { sessionSeconds: shortSessionSeconds });
  const stageOf = async (more: Readonly<Record<string, unknown>>) => ({
    aws,
    role: await start("own", more),
    short: await start("short", more),
    none: await start(undefined, more),
    refused: await start("refused", more),
    down: await start("down", more),
    arn: new RegExp(`^arn:aws:sts::${account.id}:assumed-role/Conformance(-Down|-Short)?/`),
    downRole: roleArn("Conformance-Down"),
  });
  const cloudInitReport = async () => {
    await using proxy = await start("own");
    // `await`: the proxy ends with this block.
    return await examineCloudInit(folder, proxy);
  };
  const reports: Report[] = [];
  const missing: string[] = [];
  const clients = clientsIn(folder).filter(({ name }) => only === undefined || name.includes(only));
  for (const v1 of [false, true]) {
    const some = clients.filter((client) => (client.v1 ?? false) === v1);
    if (some.length === 0) continue;
    const stage = await stageOf(v1 ? { httpTokens: "optional" } : {});
    const here: Client[] = [];
    for (const client of some) {
      const lacks = await lacking(client);
      if (lacks === undefined) here.push(client);
      else missing.push(`${client.name}: ${lacks} is missing`);
    }
    try {
      // All clients wait for the expiry at the same time, and during the other cases.
      const renewals = here.map((client) =>
        examineRenewal(client, stage).catch(
          (error: unknown): Result => ({ verdict: "wrong", note: String(error) }),
        ),
      );
      const others: Report[] = [];
      for (const client of here) others.push(await examine(client, stage));
      for (const [index, report] of others.entries()) {
        const { client, version } = report;
        const renewed = await renewals[index];
        const results =
          renewed === undefined
            ? report.results
            : new Map<Title, Result>([...report.results, ["renewal", renewed]]);
        reports.push({ client, version, results });
        const wrong = [...results].filter(([, { verdict }]) => verdict === "wrong");
        say(`${wrong.length === 0 ? "ok    " : "FAILED"}  ${client.name}: ${version}`);
        for (const [title, { note }] of wrong) say(`          ${title}: ${note.slice(0, 300)}`);
      }
    } finally {
      for (const proxy of [stage.role, stage.short, stage.none, stage.refused, stage.down])
        await proxy[Symbol.asyncDispose]();
    }
  }
  const cloudInit = "cloud-init".includes(only ?? "") ? await cloudInitReport() : undefined;
  for (const problem of cloudInit?.problems ?? []) say(`FAILED  cloud-init: ${problem}`);
  if (cloudInit === undefined && only === undefined) missing.push("cloud-init: not unpacked");
  say(`\n${tableOf(reports)}\n`);
  for (const line of missing) say(`not run: ${line}`);
  if (flags.includes("--write") && only === undefined) {
    await writeFile(
      join(import.meta.dirname, "../../docs/conformance.md"),
      documentOf(reports, missing, cloudInit),
    );
    say("docs/conformance.md written");
  }
  const failed = reports.some(({ results }) =>
    [...results.values()].some(({ verdict }) => verdict === "wrong"),
  );
  if (failed || reports.length === 0 || (cloudInit?.problems.length ?? 0) > 0) process.exitCode = 1;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

await main();
