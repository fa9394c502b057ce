import { once } from "node:events";
import { startAws } from "../test/support/aws/aws.ts";
import { localProxy } from "../test/support/local-proxy.ts";
import { startProxy } from "../test/support/proxy.ts";
import { type DemoContainers, openDocker } from "./demo/docker.ts";
import { fetchCredentials, type Outcome } from "./demo/imds-client.ts";
import { table } from "./demo/table.ts";
import { whoAmI } from "./demo/who-am-i.ts";

/**
 * The main job on one machine without AWS: the stand-in for IMDS and STS, the real proxy, and three containers that ask as an SDK does.
 * With a Docker engine at hand they are real ones; else they are addresses of the loopback network (`staticContainers`).
 * Ends by itself and leaves nothing behind; DEMO_STAY=1 keeps it for trying by hand.
 */
const role = (name: string) => `arn:aws:iam::123456789012:role/containers/${name}`;
const roles = {
  defaultAlias: "default",
  aliasToARN: { default: role("Default"), db: role("Database"), admin: role("Admin") },
};
const askers = [
  { name: "db", address: "127.0.0.11", alias: "db", wants: "the alias db" },
  { name: "web", address: "127.0.0.12", alias: undefined, wants: "nothing: the default" },
  { name: "batch", address: "127.0.0.13", alias: "admin", wants: "the alias admin" },
];
const stranger = "127.0.0.99";

async function main(): Promise<void> {
  // IAM refuses one of the roles, as it would where the role's trust policy does not name this host's.
  await using aws = await startAws({ sts: { deny: [role("Admin")] } });
  const docker = await openDocker();
  await using containers = typeof docker === "string" ? undefined : docker;
  await using proxy = await startProxy(await localProxy(), {
    metadataEndpoint: aws.imds.url,
    sts: { endpoint: aws.sts.url, region: "eu-west-1" },
    ...roles,
    // The proof is of connections that the firewall redirected; the demo has no firewall, and asks at the bridge's own address.
    ...(containers !== undefined && { identityProof: "off" }),
    staticContainers: Object.fromEntries(
      askers.map(({ name, address, alias }) => [address, { name, ...(alias !== undefined && { alias }) }]),
    ),
  });
  const ask = containers === undefined ? byLoopback(proxy.port) : await byContainers(containers, proxy.port);
  say(
    typeof docker === "string"
      ? `Containers: addresses of the loopback network, since ${docker}.`
      : "Containers: real ones of the local Docker engine.",
  );
  say(
    "Each asks the metadata service for a session token, its role and the role's credentials, as every AWS SDK does;",
  );
  say("then it asks STS who it is (GetCallerIdentity, signed with what it got).\n");
  const rows: string[][] = [];
  for (const { name, wants } of askers)
    rows.push([name, wants, ...(await cells(await ask(name), aws.sts.url))]);
  const strange = await fetchCredentials({ host: "127.0.0.1", port: proxy.port }, stranger);
  rows.push(["no container", "anything", ...(await cells(strange, aws.sts.url))]);
  say(table(["who", "asks for", "gets", "and is, says STS / because"], rows));
  say("\nWhat the proxy's log says about it:\n");
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
    fetchCredentials({ host: "127.0.0.1", port }, askers.find((asker) => asker.name === name)?.address ?? "");
}

async function byContainers(
  containers: DemoContainers,
  port: number,
): Promise<(name: string) => Promise<Outcome>> {
  for (const { name, alias } of askers)
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
${stays ? "Try it by hand in another terminal; Ctrl-C here ends it:" : "To try it by hand, run DEMO_STAY=1 make demo, which says its port and stays, and in another terminal:"}

  TOKEN=$(curl -s --interface 127.0.0.11 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://127.0.0.1:${at}/latest/api/token)
  curl -s --interface 127.0.0.11 -H "X-aws-ec2-metadata-token: $TOKEN" http://127.0.0.1:${at}/latest/meta-data/iam/security-credentials/Database

On a host with the firewall rules in place no address is needed: containers ask http://169.254.169.254 as always.`;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

await main();
