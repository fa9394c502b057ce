import { stsUrl } from "./aws.ts";
import type { CommandResult } from "./command.ts";
import type { Engine } from "./engine.ts";
import { node, repository, type TestHost } from "./host.ts";

/** A client's identity according to STS, or the client's error message. */
export type Identity = { readonly arn: string } | { readonly error: string };

/**
 * Real clients, which find credentials as they do on EC2. Only the endpoint of STS differs; it is an argument
 * because Debian's CLI 2.9 does not read AWS_ENDPOINT_URL_STS.
 */
const awsCli = ["aws", "sts", "get-caller-identity", "--output=json", `--endpoint-url=${stsUrl}`];
const boto3 = [
  "python3",
  "-c",
  `import boto3, json
who = boto3.client("sts", endpoint_url="${stsUrl}").get_caller_identity()
print(json.dumps({"Arn": who["Arn"]}))`,
];
const jsSdk = [node, `${repository}/test/support/js-sdk-identity.ts`, stsUrl];
const clients = { "aws-cli": awsCli, boto3, "js-sdk": jsSdk } as const;
export type ClientName = keyof typeof clients;

const environment = { AWS_DEFAULT_REGION: "eu-west-1" };
const timeoutMs = 60_000;

/** Runs the client in a container's network. */
export async function containerIdentity(
  engine: Engine,
  container: string,
  client: ClientName = "aws-cli",
): Promise<Identity> {
  return read(
    await engine.inNetwork(container, clients[client], { env: environment, check: false, timeoutMs }),
  );
}

/** Runs the client on the host itself. */
export async function hostIdentity(host: TestHost, client: ClientName = "aws-cli"): Promise<Identity> {
  return read(await host.exec(clients[client], { env: environment, check: false, timeoutMs }));
}

function read({ code, stdout, stderr }: CommandResult): Identity {
  if (code !== 0) return { error: stderr.trim() };
  const answer: unknown = JSON.parse(stdout);
  if (typeof answer !== "object" || answer === null || !("Arn" in answer))
    return { error: `no Arn in ${stdout}` };
  return { arn: String(answer.Arn) };
}
