import { startAws } from "../test/support/aws/aws.ts";
import { fetchCredentials, type Outcome } from "./demo/imds-client.ts";
import { startProxy } from "./demo/proxy.ts";
import { table } from "./demo/table.ts";
import { whoAmI } from "./demo/who-am-i.ts";

/**
 * The main job on one machine without AWS: the stand-in for IMDS and STS, the real proxy, and three "containers", which are addresses of the
 * loopback network (`staticContainers`). Each asks as an SDK does. Ends by itself and leaves nothing behind.
 */
const account = "123456789012";
const role = (name: string) => `arn:aws:iam::${account}:role/containers/${name}`;
const containers = [
  { name: "db", address: "127.0.0.11", alias: "db", wants: "alias db" },
  { name: "web", address: "127.0.0.12", alias: undefined, wants: "nothing: the default" },
  { name: "batch", address: "127.0.0.13", alias: "admin", wants: "alias admin" },
];

async function main(): Promise<void> {
  await using aws = await startAws({ sts: { deny: [role("Admin")] } });
  await using proxy = await startProxy(
    {
      metadataEndpoint: aws.imds.url,
      sts: { endpoint: aws.sts.url, region: "eu-west-1" },
      defaultAlias: "default",
      aliasToARN: { default: role("Default"), db: role("Database"), admin: role("Admin") },
      staticContainers: Object.fromEntries(
        containers.map(({ name, address, alias }) => [
          address,
          { name, ...(alias !== undefined && { alias }) },
        ]),
      ),
      // No engine on purpose: the demo shows the same with and without one.
      dockerHost: "/nonexistent/docker.sock",
    },
    {},
  );
  const endpoint = { host: "127.0.0.1", port: proxy.port };
  const rows: string[][] = [];
  for (const { name, address, wants } of containers) {
    rows.push([
      name,
      address,
      wants,
      ...(await outcomeCells(await fetchCredentials(endpoint, address), aws.sts.url)),
    ]);
  }
  rows.push([
    "a stranger",
    "127.0.0.99",
    "anything",
    ...(await outcomeCells(await fetchCredentials(endpoint, "127.0.0.99"), aws.sts.url)),
  ]);
  say(
    "Each asks the instance metadata service for a token, its role and the role's credentials, as every AWS SDK does;",
  );
  say("then it asks STS who it is (GetCallerIdentity, signed with what it got).\n");
  say(table(["container", "address", "asks for", "gets", "and is, says STS / because"], rows));
  say("\nWhat the proxy said about it:\n");
  say(
    proxy
      .log()
      .split("\n")
      .filter((line) => /^(credentials granted|refused|the role|role )/.test(line))
      .map((line) => `  ${line.slice(0, 220)}`)
      .join("\n"),
  );
  say(byHand(proxy.configPath));
}

async function outcomeCells(outcome: Outcome, stsUrl: string): Promise<readonly [string, string]> {
  if (outcome.kind === "nothing") return ["nothing", outcome.why];
  return [outcome.role, await whoAmI(stsUrl, outcome)];
}

function byHand(_configPath: string): string {
  return `
By hand, on a host where the proxy runs and the firewall rules are in place, in any container:

  TOKEN=$(curl -s -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token)
  curl -s -H "X-aws-ec2-metadata-token: $TOKEN" http://169.254.169.254/latest/meta-data/iam/security-credentials/
`;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

await main();
