import {
  AssumeRoleCommand,
  type AssumeRoleCommandInput,
  GetCallerIdentityCommand,
  STSClient,
} from "@aws-sdk/client-sts";
import t from "tap";
import { account, instance, issuedSecretMarker, issuedTokenMarker } from "../../../support/aws/account.ts";
import { type Aws, type AwsOptions, startAws } from "../../../support/aws/aws.ts";
import { readSessionToken } from "../../../support/aws/principals.ts";

type Keys = { readonly accessKeyId: string; readonly secretAccessKey: string; readonly sessionToken: string };

const role = (name: string, accountId: string = account.id) => `arn:aws:iam::${accountId}:role/${name}`;
const asked: AssumeRoleCommandInput = {
  RoleArn: role("containers/web"),
  RoleSessionName: "web-0123456789ab",
};
const policy = JSON.stringify({
  Version: "2012-10-17",
  Statement: [{ Effect: "Allow", Action: "s3:Get*", Resource: "*" }],
});

t.test("AssumeRole returns new keys that identify role and session", async (t) => {
  await using aws = await startAws();
  using host = client(aws, aws.imds.credentials.host);
  const before = Date.now();
  const answer = await host.send(
    new AssumeRoleCommand({
      ...asked,
      Policy: policy,
      SourceIdentity: "web",
      Tags: [{ Key: "image", Value: "nginx:1" }],
    }),
  );
  const keys = keysOf(answer.Credentials);
  t.match(keys.accessKeyId, /^ASIA[A-Z2-7]{16}$/);
  t.match(keys.secretAccessKey, new RegExp(`^${issuedSecretMarker}.{27}$`));
  t.ok(keys.sessionToken.length > 600 && keys.sessionToken.includes(issuedTokenMarker));
  t.match(readSessionToken(keys.sessionToken), {
    roleArn: asked.RoleArn,
    sessionName: asked.RoleSessionName,
  });
  t.equal(readSessionToken("something else"), undefined);
  t.match(answer.AssumedRoleUser, {
    Arn: "arn:aws:sts::123456789012:assumed-role/web/web-0123456789ab",
    AssumedRoleId: /^AROA[A-Z2-7]{17}:web-0123456789ab$/,
  });
  t.equal(answer.SourceIdentity, "web");
  t.ok((answer.PackedPolicySize ?? 0) > 0);
  const lifeMs = (answer.Credentials?.Expiration?.getTime() ?? 0) - before;
  t.ok(lifeMs > 3_590_000 && lifeMs < 3_610_000);

  const again = await host.send(new AssumeRoleCommand(asked));
  t.not(again.Credentials?.AccessKeyId, keys.accessKeyId, "keys are new in each call");
  t.ok(
    aws.secrets().some(({ secretAccessKey }) => secretAccessKey === keys.secretAccessKey),
    "and listed for leak tests",
  );
});

t.test("GetCallerIdentity returns the signer: an assumed role, the host, a user", async (t) => {
  await using aws = await startAws();
  using host = client(aws, aws.imds.credentials.host);
  using container = client(aws, keysOf((await host.send(new AssumeRoleCommand(asked))).Credentials));
  using user = client(aws, aws.addUser("proxy"));
  const identity = (client: STSClient) => client.send(new GetCallerIdentityCommand({}));
  t.match(await identity(container), {
    Arn: "arn:aws:sts::123456789012:assumed-role/web/web-0123456789ab",
    Account: account.id,
  });
  t.match(await identity(host), {
    Arn: `arn:aws:sts::123456789012:assumed-role/${account.hostRole}/${instance.id}`,
  });
  t.match(await identity(user), {
    Arn: "arn:aws:iam::123456789012:user/proxy",
    UserId: /^AIDA[A-Z2-7]{17}$/,
  });
});

t.test("parameters outside the API's limits are rejected with AWS's code", async (t) => {
  await using aws = await startAws();
  using host = client(aws, aws.imds.credentials.host);
  const tags = (count: number, size = 1) =>
    Array.from({ length: count }, (_, n) => ({ Key: `k${n}`, Value: noise(n, size) }));
  const arns = (count: number) =>
    Array.from({ length: count }, (_, n) => ({ arn: `arn:aws:iam::${account.id}:policy/p${n}` }));
  const cases: readonly (readonly [
    AssumeRoleCommandInput | Partial<AssumeRoleCommandInput>,
    string,
    RegExp?,
  ])[] = [
    [{ RoleArn: "arn:aws:iam::1:r/x" }, "ValidationError", /at 'roleArn' .* greater than or equal to 20/],
    [{ RoleArn: "arn:aws:iam::12:role/too-short-account" }, "ValidationError", /is invalid$/],
    [{ RoleArn: role("x".repeat(65)) }, "ValidationError", /is invalid$/],
    [{ RoleSessionName: "a" }, "ValidationError", /greater than or equal to 2$/],
    [{ RoleSessionName: "a".repeat(65) }, "ValidationError", /less than or equal to 64$/],
    [{ RoleSessionName: "a/b" }, "ValidationError", /pattern: \[\\w\+=,\.@-\]\*$/],
    [
      { RoleSessionName: "a:b", DurationSeconds: 899 },
      "ValidationError",
      /^2 validation errors detected: .*; Value '899' at 'durationSeconds'/,
    ],
    [{ DurationSeconds: 43_201 }, "ValidationError", /less than or equal to 43200$/],
    [{ DurationSeconds: 3601 }, "ValidationError", /exceeds the MaxSessionDuration set for this role\.$/],
    [{ Policy: "{" }, "MalformedPolicyDocument", /invalid Json/],
    [{ Policy: "{}" }, "MalformedPolicyDocument"],
    [{ Policy: policy.replace("Allow", "May") }, "MalformedPolicyDocument"],
    [
      { Policy: `${policy}${" ".repeat(2048)}` },
      "ValidationError",
      /at 'policy' .* less than or equal to 2048$/,
    ],
    [{ Policy: policy.replace("s3", "s\u0130") }, "ValidationError", /at 'policy'/],
    [{ PolicyArns: arns(11) }, "ValidationError", /at 'policyArns'/],
    [{ PolicyArns: [{ arn: "arn:aws:iam::999999999999:policy/other" }] }, "ValidationError", /PolicyArn/],
    [{ Tags: tags(51) }, "ValidationError", /at 'tags'/],
    [{ Tags: [{ Key: "a*", Value: "b" }] }, "ValidationError", /at 'tags.1.member.key'/],
    [{ Tags: [{ Key: "a", Value: "b".repeat(257) }] }, "ValidationError", /at 'tags.1.member.value'/],
    [
      {
        Tags: [
          { Key: "Image", Value: "a" },
          { Key: "image", Value: "b" },
        ],
      },
      "ValidationError",
      /Duplicate tag keys/,
    ],
    [{ Tags: tags(50, 250) }, "PackedPolicyTooLarge", /% of allotted space/],
    [{ ExternalId: "a" }, "ValidationError", /at 'externalId'/],
    [{ ExternalId: "a b" }, "ValidationError", /at 'externalId'/],
    [{ SourceIdentity: "aws:x" }, "ValidationError", /at 'sourceIdentity'/],
  ];
  for (const [change, code, message = /./] of cases)
    await t.test(`${JSON.stringify(change).slice(0, 80)} is ${code}`, async (t) => {
      await t.rejects(host.send(new AssumeRoleCommand({ ...asked, ...change })), {
        name: wireName(code),
        message,
        $metadata: { httpStatusCode: 400 },
      });
    });
  for (const change of [
    { RoleSessionName: "ab" },
    { RoleSessionName: "f".repeat(64) },
    { DurationSeconds: 900 },
    { Tags: tags(50) },
    { PolicyArns: arns(10) },
  ])
    await t.test(`${JSON.stringify(change).slice(0, 60)} is accepted`, async (t) => {
      await t.resolves(host.send(new AssumeRoleCommand({ ...asked, ...change })));
    });
});

t.test(
  "the account, the deny list, the external id and the role's maximum session duration decide who may assume a role",
  async (t) => {
    const long = role("long");
    const secretive = role("secretive");
    const options: AwsOptions = {
      sts: {
        deny: [role("admin*")],
        roles: { [long]: { maxSessionDurationSeconds: 7200 }, [secretive]: { externalId: "x-1" } },
      },
    };
    await using aws = await startAws(options);
    using host = client(aws, aws.imds.credentials.host);
    const assume = (with_: Partial<AssumeRoleCommandInput>, who = host) =>
      who.send(new AssumeRoleCommand({ ...asked, ...with_ }));
    const denied = {
      name: "AccessDenied",
      message: /is not authorized to perform: sts:AssumeRole on resource/,
      $metadata: { httpStatusCode: 403 },
    };
    await t.rejects(assume({ RoleArn: role("admin-1") }), denied);
    await t.rejects(assume({ RoleArn: role("web", "999999999999") }), denied);
    await t.rejects(assume({ RoleArn: "arn:aws-cn:iam::123456789012:role/web" }), denied);
    await t.rejects(
      assume({ RoleArn: role("fault-accessDenied") }),
      denied,
      "a role's name can select a fault",
    );
    await t.rejects(assume({ RoleArn: secretive }), denied);
    await t.resolves(assume({ RoleArn: secretive, ExternalId: "x-1" }));

    const session = await assume({ RoleArn: long, DurationSeconds: 7200 });
    using chained = client(aws, keysOf(session.Credentials));
    const limit = {
      name: "ValidationError",
      message: /exceeds the 1 hour session limit for roles assumed by role chaining$/,
    };
    await t.rejects(assume({ RoleArn: long, DurationSeconds: 7200 }, chained), limit);
    await t.resolves(assume({ RoleArn: long }, chained));
    aws.sts.faults.set({ chainingLimit: true });
    await t.rejects(assume({ RoleArn: long, DurationSeconds: 7200 }), limit);
  },
);

/** A client with these keys, without retries. */
function client(aws: Aws, keys: Keys): STSClient & Disposable {
  const { accessKeyId, secretAccessKey, sessionToken } = keys;
  const credentials = { accessKeyId, secretAccessKey, ...(sessionToken === "" ? {} : { sessionToken }) };
  const made = new STSClient({ endpoint: aws.sts.url, region: account.region, maxAttempts: 1, credentials });
  return Object.assign(made, { [Symbol.dispose]: () => made.destroy() });
}

function keysOf(
  found:
    | {
        AccessKeyId: string | undefined;
        SecretAccessKey: string | undefined;
        SessionToken: string | undefined;
      }
    | undefined,
): Keys {
  const { AccessKeyId = "", SecretAccessKey = "", SessionToken = "" } = found ?? {};
  return { accessKeyId: AccessKeyId, secretAccessKey: SecretAccessKey, sessionToken: SessionToken };
}

/** The SDK appends `Exception` to the names of modelled errors. */
function wireName(code: string): string {
  return ["MalformedPolicyDocument", "PackedPolicyTooLarge"].includes(code) ? `${code}Exception` : code;
}

/** Text that does not compress well; the same on each run. */
function noise(seed: number, length: number): string {
  let state = seed + 1;
  return Array.from({ length }, () => {
    state = (state * 48_271) % 2_147_483_647;
    return (state % 36).toString(36);
  }).join("");
}
