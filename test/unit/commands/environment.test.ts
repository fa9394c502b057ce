import { execFileSync } from "node:child_process";
import t from "tap";
import { usableEnvironment } from "../../../src/commands/environment.ts";
import { readEnvironment } from "../../../src/config/load.ts";
import { report } from "../../../src/errors.ts";

const all = { aws: true, engine: true };

async function refusal(variables: Record<string, string>, use = all): Promise<string> {
  return usableEnvironment(readEnvironment(variables), use).then(
    () => "",
    (error: unknown) => report(error),
  );
}

t.test(
  "every problem is printed with its variable and the file to edit, and the exit code is 78",
  async (t) => {
    const variables = { AWS_REGION: "us_east_1", DOCKER_HOST: "ssh://host" };
    await t.rejects(usableEnvironment(readEnvironment(variables), all), {
      name: "OperatorError",
      exitCode: 78,
    });
    t.equal(
      await refusal(variables),
      `the environment has 2 problems
  AWS_REGION: expected a region such as eu-west-1, got "us_east_1". Write us-east-1.
  DOCKER_HOST: cannot use "ssh://host": ssh:// is not supported. Write unix:///var/run/docker.sock, unix:///run/podman/podman.sock or tcp://host:2376.
Edit /etc/ec2metaproxy/environment, where the services read these variables.`,
    );
  },
);

t.test("what a command does not read is not its problem", async (t) => {
  t.equal(await refusal({ AWS_REGION: "x" }, { aws: false, engine: true }), "");
  t.equal(await refusal({ DOCKER_HOST: "ssh://x" }, { aws: true, engine: false }), "");
});

t.test("the bundle of AWS_CA_BUNDLE is read once, and its problems are named", async (t) => {
  const key = `${t.testdir({})}/key`;
  const args = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=ca", "-keyout", key];
  const pem = execFileSync("openssl", args, { stdio: ["ignore", "pipe", "ignore"] }).toString();
  const folder = t.testdir({ "good.pem": pem });
  const { caBundle } = await usableEnvironment(readEnvironment({ AWS_CA_BUNDLE: `${folder}/good.pem` }), all);
  t.equal(caBundle, pem);
});

for (const [what, files, expected] of [
  ["an absent file", {}, /AWS_CA_BUNDLE: ENOENT/],
  ["a directory", { pem: {} }, /AWS_CA_BUNDLE: EISDIR/],
  ["an empty file", { pem: "" }, /AWS_CA_BUNDLE: .*no certificate in PEM/],
  [
    "a private key",
    { pem: "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----" },
    /no certificate/,
  ],
  [
    "a certificate that is none",
    { pem: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----" },
    /certificate 1 of .* cannot be read/,
  ],
] as const)
  t.test(`AWS_CA_BUNDLE that names ${what} is a problem`, async (t) => {
    const folder = t.testdir(files);
    const text = await refusal({ AWS_CA_BUNDLE: `${folder}/pem` });
    t.match(text, expected);
    t.notMatch(text, /hunter2/);
  });
