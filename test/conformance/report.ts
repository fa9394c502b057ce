import { type Report, titles } from "./cases.ts";
import type { CloudInitReport } from "./cloud-init.ts";
import { differences } from "./recordings.ts";
import { shortSessionSeconds } from "./renewal.ts";

const marks = {
  ok: "ok",
  second: "ok, at the second ask",
  late: "ok, late",
  "not asked": "–",
  "its own": "no, on EC2 neither",
  wrong: "**no**",
} as const;

/** Clients by cases, as Markdown. */
export function tableOf(reports: readonly Report[]): string {
  const rows = reports.map(({ client, version, results }) => [
    client.name,
    version,
    ...titles.map((title) => marks[results.get(title)?.verdict ?? "not asked"]),
  ]);
  const head = ["SDK", "version", ...titles];
  return [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

export function documentOf(
  reports: readonly Report[],
  missing: readonly string[],
  cloudInit: CloudInitReport | undefined,
): string {
  const says = (title: (typeof titles)[number]) =>
    reports
      .map(({ client, results }) => `| ${client.name} | ${inCell(results.get(title)?.note ?? "")} |`)
      .join("\n");
  return `# Which SDKs work through the proxy

Made by \`make test-sdks\`, which runs each SDK in its default settings against the real proxy before the stand-ins of IMDS and STS; do not edit. Each
is told one thing: where the metadata service is (\`AWS_EC2_METADATA_SERVICE_ENDPOINT\`). That the credentials are the role's is
what STS says of them (\`GetCallerIdentity\`).

${tableOf(reports)}
${missing.length === 0 ? "" : `\nNot run: ${missing.map((line) => line.split(":")[0]).join(", ")} (not installed).\n`}
- \`–\`: the SDK does not do this. *no, on EC2 neither*: it stumbles over what the real service answers as well; the reason is below.
- **credentials**: the first ask finds the container's own role.
- **region**: what the SDK or its metadata client finds of itself, from \`placement/\` or the identity document, which are passed through.
- **renewal**: one process holds credentials that end after ${shortSessionSeconds} seconds, and signs on with whatever the SDK has then. The keys must be other ones than
  before, and STS must take them: it refuses expired ones. Nothing tells the SDK to ask; the proxy has fetched the new keys in time by itself.
  *Late*: some SDKs sign with expired keys for a while, on EC2 too. botocore takes less than 17 to 25 minutes (at random) for an outage of IMDS, believes
  its keys valid for that long from now, and asks again 2 to 10 minutes later (\`_evaluate_expiration\` in \`botocore/utils.py\`). Java v1 does so below 15
  minutes and asks again after 15 to 65 seconds (\`BaseCredentialsFetcher\`). The SDK for C++ asks IMDS once in 5 minutes, whatever the expiry. The proxy
  renews an hour's session before 35 minutes have passed, so while STS answers no client gets there. The AWS CLI is a new process for each command.
- **restart, same key / new key**: the proxy is restarted between two asks of one provider. With the same key (a restart of the service) the session
  token that the client keeps stays valid; with a new one (a reboot) it gets 401 and must take a new one. *At the second ask*: Go v1 takes the 401 for
  an error and renews its token when it asks next (on EC2 too); any other may meet a proxy that has just started and says 503 until STS has answered.
- **no role / IAM refuses / STS fails**: the SDK ends with an error or without credentials, soon, and without crashing or hanging. What it says is below.
- **STS is back**: the process that failed before gets its credentials when it asks again.

Not among them: PHP and .NET, for which no package was at hand. \`test/unit/imds/handler.test.ts\` holds what they send, as far as it is known.

The CRT (the C library within several SDKs) and the SDK for C++ as pyarrow builds it have no setting for the address: their connections to
169.254.169.254 are redirected (\`test/conformance/clients/crt/redirect.c\`). They cannot be told to ask again: *again* is a new provider.

boto 2 knows IMDSv1 only: its proxy has \`httpTokens: "optional"\`. It has no setting for the address, so its own function is given it.

## What the user sees of a container without a role

| SDK | says |
| --- | --- |
${says("no role")}

## What the user sees when IAM refuses the role

| SDK | says |
| --- | --- |
${says("IAM refuses")}

## What the user sees while STS fails

| SDK | says |
| --- | --- |
${says("STS fails")}

${cloudInit === undefined ? "" : cloudInitSection(cloudInit)}
## Where the proxy's answers differ from the real service's

Nobody has compared the proxy with a live instance. These are the differences from what is published of the real service's answers: recordings in
the tests of smithy-rs (2021), and terminal logs of 2020, 2022 and 2023. \`test/unit/imds/answers.test.ts\` fails if there is another one.

| answer | the real one | the proxy | why |
| --- | --- | --- | --- |
${differences.map((row) => `| ${row.join(" | ")} |`).join("\n")}
`;
}

function cloudInitSection({ version, api, read, missing, problems }: CloudInitReport): string {
  const list = (paths: readonly string[]) =>
    [...new Set(paths.map(shortened))].map((path) => `\`${path}\``).join(", ");
  return `## cloud-init

${version} (Debian), whose EC2 data source crawls \`meta-data/\`, with a session token, by its own code (\`DataSourceEc2.crawl_metadata\`). It
takes the API version ${api}. ${problems.length === 0 ? "It works, without an error or a warning, within seconds." : `**It does not work**: ${problems.join("; ")}.`}

- It reads ${list(read)}, and the identity document.
- It finds no user-data: the proxy says 404, as the real service does when there is none, and cloud-init goes on with an empty one. \`passthrough.allow\` with
  \`user-data\` changes that.
- It does not see ${list(missing)}: the listings leave out what is not allowed, so cloud-init never asks for it. (At a 404 below a listing
  it gives up the whole crawl.)
- It reads no credentials of anybody: it skips \`security-credentials\`, and \`iam/info\` is that of the container's own role.
`;
}

/** `network/interfaces/macs/…`: one address stands for all. */
function shortened(path: string): string {
  return path
    .replace(/^iam\/info\/.*/, "iam/info")
    .replace(/^(network\/interfaces\/macs|tags|managed-ssh-keys)\/.*/, "$1/…");
}

/** One line, without ports and ids that differ from run to run. */
function inCell(text: string): string {
  return text
    .replace(/\s+/g, " ")
    .replace(/127\.0\.0\.1:\d+/g, "127.0.0.1")
    .replace(/\|/g, "\\|")
    .replace(/[<>]/g, "")
    .slice(0, 240);
}
