import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";

/** The caller's ARN according to STS, which proves that the credentials are valid. */
export async function whoAmI(
  endpoint: string,
  credentials: { readonly accessKeyId: string; readonly secretAccessKey: string; readonly token: string },
): Promise<string> {
  const client = new STSClient({
    endpoint,
    region: "eu-west-1",
    credentials: {
      accessKeyId: credentials.accessKeyId,
      secretAccessKey: credentials.secretAccessKey,
      sessionToken: credentials.token,
    },
  });
  try {
    const identity = await client.send(new GetCallerIdentityCommand({}));
    return identity.Arn ?? "no ARN";
  } finally {
    client.destroy();
  }
}
