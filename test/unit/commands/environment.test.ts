import { execFileSync } from "node:child_process";
import t from "tap";
import { checkedEnvironment, usableEnvironment } from "../../../src/commands/environment.ts";
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

const judged = (
  variables: Record<string, string>,
  { environmentOf = "this process", unreadable = [], configOnly = false }: Partial<Judged> = {},
) => checkedEnvironment({ environment: readEnvironment(variables), environmentOf, unreadable }, configOnly);
type Judged = {
  environmentOf: "service" | "this process";
  unreadable: readonly string[];
  configOnly: boolean;
};
const wrong = { AWS_REGION: "x" };
const closed = { unreadable: ["EACCES"] };

for (const { what, variables, how, fails } of [
  { what: "the service's variables", variables: wrong, how: { environmentOf: "service" }, fails: true },
  {
    what: "the service's DOCKER_HOST",
    variables: { DOCKER_HOST: "ssh://x" },
    how: { environmentOf: "service" },
    fails: true,
  },
  {
    what: "the variables of this process, where there is no service",
    variables: wrong,
    how: {},
    fails: true,
  },
  { what: "a DOCKER_HOST of this process", variables: { DOCKER_HOST: "ssh://x" }, how: {}, fails: false },
  { what: "those of a shell that may not read the service's", variables: wrong, how: closed, fails: false },
  {
    what: "those that may be the service's, with --config-only",
    variables: wrong,
    how: { ...closed, configOnly: true },
    fails: true,
  },
] as const)
  t.test(`check ${fails ? "fails because of" : "does not fail because of"} ${what}`, async (t) => {
    if (fails) await t.rejects(judged(variables, how), { name: "OperatorError", exitCode: 78 });
    else await t.resolves(judged(variables, how));
  });

t.test("what is wrong in a shell that is not the service's is a note", async (t) => {
  t.match((await judged(wrong, closed)).ignored, [
    { where: "AWS_REGION of this shell:", message: /expected a region/ },
  ]);
});
