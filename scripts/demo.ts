import { once } from "node:events";
import { startAws } from "../test/support/aws/aws.ts";
import { localProxy } from "../test/support/local-proxy.ts";
import { startProxy } from "../test/support/proxy.ts";
import { type DemoContainers, openDocker } from "./demo/docker.ts";
import { fetchCredentials, type Outcome } from "./demo/imds-client.ts";
import { table } from "./demo/table.ts";
import { whoAmI } from "./demo/who-am-i.ts";

/**
 * The main use case on one machine without AWS: stand-ins for IMDS and STS, the real proxy, and three
 * containers that request credentials as an SDK does. They are real containers if a Docker engine is
 * available, else addresses of the loopback network (`staticContainers`). Ends by itself and removes
 * everything. With DEMO_STAY=1 it stays, to be tried by hand.
 */
const role = (name: string) => `arn:aws:iam::123456789012:role/containers/${name}`;
const roles = {
  defaultAlias: "default",
  aliasToARN: { default: role("Default"), db: role("Database"), admin: role("Admin") },
};
const clients = [
  { name: "db", address: "127.0.0.11", alias: "db", requests: "alias db" },
  { name: "web", address: "127.0.0.12", alias: undefined, requests: "nothing: the default" },
  { name: "batch", address: "127.0.0.13", alias: "admin", requests: "alias admin" },
];
const unknownAddress = "127.0.0.99";

async function main(): Promise<void> {
  // IAM refuses one of the roles, as if its trust policy did not allow this host's role.
  await using aws = await startAws({ sts: { deny: [role("Admin")] } });
  const docker = await openDocker();
  await using containers = typeof docker === "string" ? undefined : docker;
  await using proxy = await startProxy(await localProxy(), {
    metadataEndpoint: aws.imds.url,
    sts: { endpoint: aws.sts.url, region: "eu-west-1" },
    ...roles,
    // The proof needs connections that the firewall redirected. The demo has no firewall and connects to the
    // bridge's address.
    ...(containers !== undefined && { identityProof: "off" }),
    staticContainers: Object.fromEntries(
      clients.map(({ name, address, alias }) => [address, { name, ...(alias !== undefined && { alias }) }]),
    ),
  });
  const fetchFor =
    containers === undefined ? byLoopback(proxy.port) : await byContainers(containers, proxy.port);
  say(
    typeof docker === "string"
      ? `Containers: addresses of the loopback network, because ${docker}.`
      : "Containers: real containers of the local Docker engine.",
  );
  say(
    "Each requests a session token, its role and the role's credentials from the metadata service, as every AWS SDK does;",
  );
  say("then it calls GetCallerIdentity of STS, signed with these credentials.\n");
  const rows: string[][] = [];
  for (const { name, requests } of clients)
    rows.push([name, requests, ...(await cells(await fetchFor(name), aws.sts.url))]);
  const refused = await fetchCredentials({ host: "127.0.0.1", port: proxy.port }, unknownAddress);
  rows.push(["no container", "anything", ...(await cells(refused, aws.sts.url))]);
  say(table(["who", "requests", "gets", "identity according to STS / reason"], rows));
  say("\nThe proxy's log:\n");
  const lines = proxy
    .log()
    .split("\n")
    .filter((line) => /^(credentials granted|refused: )/.test(line));
  say(
    lines.map((line) => `  ${line.replace(/\. Please see documentation\S* .*?(?= code=)/, "")}`).join("\n"),
  );
  say(byHand(proxy.port));
  if (process.env.DEMO_STAY !== undefined) await once(process, "SIGINT");
}

function byLoopback(port: number): (name: string) => Promise<Outcome> {
  return (name) =>
    fetchCredentials(
      { host: "127.0.0.1", port },
      clients.find((client) => client.name === name)?.address ?? "",
    );
}

async function byContainers(
  containers: DemoContainers,
  port: number,
): Promise<(name: string) => Promise<Outcome>> {
  for (const { name, alias } of clients)
    await containers.run(name, alias === undefined ? [] : [`--label=ec2metaproxy.RoleAlias=${alias}`]);
  return (name) => containers.fetchCredentials(name, port);
}

async function cells(outcome: Outcome, stsUrl: string): Promise<readonly [string, string]> {
  if (outcome.kind === "nothing") return ["nothing", outcome.why];
  return [outcome.role, await whoAmI(stsUrl, outcome)];
}

function byHand(port: number): string {
  const stays = process.env.DEMO_STAY !== undefined;
  const at = stays ? String(port) : "PORT";
  return `
${stays ? "Try it by hand in another terminal; Ctrl-C here ends it:" : "To try it by hand, run DEMO_STAY=1 make demo, which prints its port and stays, and in another terminal:"}

  TOKEN=$(curl -s --interface 127.0.0.11 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://127.0.0.1:${at}/latest/api/token)
  curl -s --interface 127.0.0.11 -H "X-aws-ec2-metadata-token: $TOKEN" http://127.0.0.1:${at}/latest/meta-data/iam/security-credentials/Database

On a host with the firewall rules no address is needed: containers use http://169.254.169.254 as always.`;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

await main();
