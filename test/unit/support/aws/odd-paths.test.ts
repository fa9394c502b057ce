import t from "tap";
import { account, leaksHostSecret } from "../../../support/aws/account.ts";
import { startAws } from "../../../support/aws/aws.ts";
import { ask, read } from "./ask.ts";

const secret = `/latest/meta-data/iam/security-credentials/${account.hostRole}`;
const directory = "/latest/meta-data/iam/security-credentials";

/** Spellings of a secret path that some server might accept. The generous stand-in accepts all of them. */
const odd: readonly string[] = [
  `${secret}/`,
  `${secret}//`,
  `/${secret}`,
  secret.replaceAll("/", "//"),
  secret.toUpperCase(),
  secret.replace("iam", "IaM"),
  secret.replace("iam", "%69am"),
  secret.replace("iam", "%2569am"),
  secret.replace("iam", "%25252569am"),
  secret.replaceAll("/", "%2f").replace("%2f", "/"),
  `/${secret.replaceAll("/", "%2F")}`,
  `/${secret.replaceAll("/", "\\")}`,
  secret.replace("/iam", "%5ciam"),
  secret.replace("/iam", "%c0%afiam"),
  secret.replace("/iam", "%e0%80%afiam"),
  secret.replace("/iam", "%u002fiam"),
  secret.replace("iam", "%ef%bd%89am"),
  "/latest/./meta-data/./iam/security-credentials/ec2-host-role",
  "/latest/meta-data/placement/../iam/security-credentials/ec2-host-role",
  "/latest/meta-data/placement/%2e%2e/iam/security-credentials/ec2-host-role",
  "/latest/meta-data/placement/%252e%252e/iam/security-credentials/ec2-host-role",
  "/latest/meta-data/placement/%c0%ae%c0%ae/iam/security-credentials/ec2-host-role",
  "/latest/meta-data/placement/..;/iam/security-credentials/ec2-host-role",
  "/../../latest/meta-data/iam/security-credentials/ec2-host-role",
  `${directory};x=1/ec2-host-role;y`,
  `${directory}/%00/ec2-host-role`,
  `${secret}%00.txt`,
  `${secret}%20`,
  `${secret}%0a`,
  `${directory}/%09ec2-host-role`,
  `${secret}?x=1`,
  `${secret}#x`,
  `${secret}%3fx=1`,
  `${secret}%23x`,
  "/latest/meta-data/ami-id?/../../../latest/meta-data/iam/security-credentials/ec2-host-role",
  "/latest/meta-data/ami-id#/../iam/security-credentials/ec2-host-role",
  `http://169.254.169.254${secret}`,
  `HTTP://[fd00:ec2::254]:80${secret}`,
  `//169.254.169.254${secret}`,
  `/1.0/meta-data/iam/security-credentials/${account.hostRole}`,
  `/2009-04-04/meta-data/iam/security-credentials/${account.hostRole}`,
  `/2031-12-24/meta-data/iam/security-credentials/${account.hostRole}`,
  `/latest/meta-data/iam/security-credentials-extended/${account.hostRole}`,
  "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance",
  "/latest/meta-data/identity-credentials/ec2/security%2dcredentials/ec2%2dinstance",
  "/latest/meta-data/iam-ecs-1/security-credentials/0123456789abcdef0123456789abcdef-TaskExecution",
  "/latest/user-data",
  "/latest/user%2ddata",
  "/latest//User-Data/",
  "/latest/meta-data/../user-data",
];

t.test("the generous reading returns a marked secret for every odd spelling", async (t) => {
  await using aws = await startAws();
  for (const path of odd)
    await t.test(path, async (t) => {
      const { status, body } = await read(aws.imds.url, path);
      t.ok(status === 200 && leaksHostSecret(body));
    });
});

t.test("the strict reading does not normalise a path", async (t) => {
  await using aws = await startAws({ imds: { generous: false } });
  for (const path of [secret, `${secret}/`, `${secret}?x`, `http://169.254.169.254${secret}`])
    await t.test(path, async (t) => {
      t.ok(leaksHostSecret((await read(aws.imds.url, path)).body));
    });
  for (const path of [
    secret.toUpperCase(),
    secret.replace("iam", "%69am"),
    secret.replaceAll("/", "//"),
    "/2031-12-24/user-data",
  ])
    await t.test(path, async (t) => {
      t.equal((await read(aws.imds.url, path)).status, 404);
    });
});

t.test("harmless paths stay harmless, and no spelling bypasses the token", async (t) => {
  await using aws = await startAws();
  for (const path of [
    "/latest/meta-data/ami-id",
    "/latest/meta-data/ami-id?x=/y",
    "/latest/%6deta-data/AMI-ID//",
    "/latest/meta-data/iam/info",
  ])
    await t.test(path, async (t) => {
      const { status, body } = await read(aws.imds.url, path);
      t.equal(status, 200);
      t.notOk(leaksHostSecret(body));
    });
  for (const path of odd)
    await t.test(`${path} without a token`, async (t) => {
      t.equal((await ask(aws.imds.url, path)).status, 401);
    });
});
