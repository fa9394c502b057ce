import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { fromInstanceMetadata } from "@aws-sdk/credential-providers";
import t from "tap";
import { account, instance } from "../../../support/aws/account.ts";
import { type AwsOptions, startAws } from "../../../support/aws/aws.ts";

const endpointVariable = "AWS_EC2_METADATA_SERVICE_ENDPOINT";

const runs: readonly (readonly [string, AwsOptions])[] = [
  ["with tokens required", {}],
  ["with tokens optional", { imds: { httpTokens: "optional" } }],
  ["with keep-alive connections and strict paths", { imds: { keepAlive: true, generous: false } }],
];
for (const [name, options] of runs) {
  t.test(`the SDK gets the host's credentials from IMDS and can use them, ${name}`, async (t) => {
    await using aws = await startAws(options);
    process.env[endpointVariable] = aws.imds.url;
    t.teardown(() => {
      delete process.env[endpointVariable];
    });
    const credentials = await fromInstanceMetadata()();
    t.equal(credentials.accessKeyId, aws.imds.credentials.host.accessKeyId);
    const sent = aws.imds.requests.list().map(({ method, url }) => `${method} ${url}`);
    t.same(sent, [
      "PUT /latest/api/token",
      "GET /latest/meta-data/iam/security-credentials/",
      `GET /latest/meta-data/iam/security-credentials/${account.hostRole}`,
    ]);

    const client = new STSClient({ endpoint: aws.sts.url, region: account.region, credentials });
    const { Arn } = await client.send(new GetCallerIdentityCommand({}));
    client.destroy();
    t.equal(Arn, `arn:aws:sts::${account.id}:assumed-role/${account.hostRole}/${instance.id}`);
    t.match(aws.sts.calls.list(), [{ action: "GetCallerIdentity", outcome: "ok" }]);
  });
}

t.test("the SDK falls back to IMDSv1 if the token path is refused and tokens are optional", async (t) => {
  await using aws = await startAws({ imds: { httpTokens: "optional" } });
  aws.imds.setFaults({ status: 403, match: "/api/token" });
  process.env[endpointVariable] = aws.imds.url;
  t.teardown(() => {
    delete process.env[endpointVariable];
  });
  t.equal((await fromInstanceMetadata()()).accessKeyId, aws.imds.credentials.host.accessKeyId);
});

t.test("the SDK finds no credentials if the instance has no role", async (t) => {
  await using aws = await startAws();
  aws.imds.setFaults({ noRole: true });
  process.env[endpointVariable] = aws.imds.url;
  t.teardown(() => {
    delete process.env[endpointVariable];
  });
  await t.rejects(fromInstanceMetadata()(), { name: "ProviderError", statusCode: 404 });
});
