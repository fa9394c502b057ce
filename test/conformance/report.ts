import { type Report, titles } from "./cases.ts";

const marks = {
  ok: "ok",
  second: "ok, at the second ask",
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

export function documentOf(reports: readonly Report[], missing: readonly string[]): string {
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
- **renewal**: the same provider, asked again.
- **restart, same key / new key**: the proxy is restarted between two asks of one provider. With the same key (a restart of the service) the session
  token that the client keeps stays valid; with a new one (a reboot) it gets 401 and must take a new one. *At the second ask*: Go v1 takes the 401 for
  an error and renews its token when it asks next (on EC2 too); any other may meet a proxy that has just started and says 503 until STS has answered.
- **no role / IAM refuses / STS fails**: the SDK ends with an error or without credentials, soon, and without crashing or hanging. What it says is below.
- **STS is back**: the process that failed before gets its credentials when it asks again.

Not among them: PHP, C++ and .NET, for which no package was at hand. \`test/unit/imds/handler.test.ts\` holds what they send, as far as it is known.

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
`;
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
