import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { fromInstanceMetadata } from "@aws-sdk/credential-providers";

/**
 * Prints {"Arn": …}: the identity of the AWS SDK for JavaScript with credentials from IMDS. Usage:
 * js-sdk-identity.ts STS-URL
 */
const client = new STSClient({
  endpoint: process.argv[2] ?? "",
  region: "eu-west-1",
  credentials: fromInstanceMetadata({ timeout: 3_000, maxRetries: 1 }),
});
const identity = await client.send(new GetCallerIdentityCommand({}));
process.stdout.write(JSON.stringify({ Arn: identity.Arn }));
