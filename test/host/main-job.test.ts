import t from "tap";
import { leakMarker } from "../support/aws/account.ts";
import { startAws } from "../support/host/aws.ts";
import { bootFor } from "../support/host/boot.ts";
import { type ClientName, containerIdentity, hostIdentity } from "../support/host/clients.ts";
import { containerEngine, type Engine } from "../support/host/engine.ts";
import { node, repository, type TestHost } from "../support/host/host.ts";
import { hostProxy } from "../support/host/proxy.ts";
import { canBoot } from "../support/host/requirements.ts";
import { startProxy } from "../support/proxy.ts";

/**
 * The main use case on a booted host: real containers, real clients, the firewall's redirect, the proxy as an
 * ordinary user.
 */
const account = "123456789012";
const roleArn = (name: string) => `arn:aws:iam::${account}:role/containers/${name}`;
const config = {
  defaultAlias: "default",
  aliasToARN: { default: roleArn("Default"), db: roleArn("Database") },
  allowRoleArns: [`arn:aws:iam::${account}:role/containers/*`],
};
const asRole = (role: string, name: string) =>
  new RegExp(`^arn:aws:sts::${account}:assumed-role/${role}/${name}-[0-9a-f]{12}$`);

const containers = [
  { name: "db1", labels: { "ec2metaproxy.RoleAlias": "db" }, role: "Database" },
  { name: "env1", env: { IAM_ROLE: roleArn("ByEnv") }, role: "ByEnv" },
  {
    name: "swipely1",
    labels: { "com.swipely.iam-docker.iam-profile": roleArn("ByProfile") },
    role: "ByProfile",
  },
  { name: "plain1", role: "Default" },
];

const firewall = (host: TestHost, ...args: readonly string[]) =>
  host.exec([node, `${repository}/src/main.ts`, "firewall", ...args]);

/** Requests credentials over IMDSv2 with curl, in a container's network. */
const requestByCurl = (engine: Engine, container: string) =>
  engine.inNetwork(
    container,
    `set -e
T=$(curl -sf -m 3 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token)
R=$(curl -sf -m 3 -H "X-aws-ec2-metadata-token: $T" http://169.254.169.254/latest/meta-data/iam/security-credentials/)
curl -sf -m 3 -H "X-aws-ec2-metadata-token: $T" http://169.254.169.254/latest/meta-data/iam/security-credentials/$R`,
    { check: false, timeoutMs: 20_000 },
  );

// The rounds do the same on both hosts, so the second one has fewer of them.
for (const { suite, rounds } of [
  { suite: "bookworm", rounds: 100 },
  { suite: "trixie", rounds: 20 },
] as const) {
  if (!canBoot(t)) break;
  t.test(`on ${suite} each container gets its own role's credentials and never the host's`, async (t) => {
    const host = await bootFor(t, { suite });
    await startAws(host);
    const docker = await containerEngine(host, "docker");
    const proxy = await startProxy(hostProxy(host), config);
    await firewall(host, "apply");
    for (const { name, labels, env } of containers)
      await docker.run({ name, ...(labels && { labels }), ...(env && { env }) });

    for (const client of ["aws-cli", "boto3", "js-sdk"] satisfies ClientName[])
      for (const { name, role } of containers)
        await t.test(`${client} in ${name} has the container's own role`, async (t) => {
          const identity = await containerIdentity(docker, name, client);
          t.match("arn" in identity ? identity.arn : identity.error, asRole(role, name));
        });

    await t.test("the host itself still sees its own role", async (t) => {
      const identity = await hostIdentity(host);
      t.match("arn" in identity ? identity.arn : identity.error, /assumed-role\/ec2-host-role\//);
    });

    await t.test(
      "a container that joins a second network gets its role there, without a restart",
      async (t) => {
        await docker.call("network", "create", "second");
        await docker.run({ name: "two1", labels: { "ec2metaproxy.RoleAlias": "db" } });
        await docker.call("network", "connect", "second", "two1");
        await docker.call("network", "disconnect", "bridge", "two1");
        const identity = await containerIdentity(docker, "two1");
        t.match("arn" in identity ? identity.arn : identity.error, asRole("Database", "two1"));
      },
    );

    await t.test(
      `a container with the address of a removed one never gets the old one's credentials, in ${rounds} rounds`,
      async (t) => {
        const seen = new Set<string>();
        let last = "";
        for (let round = 0; round < rounds; round += 1) {
          const name = `round${round}`;
          const role = round % 2 === 0 ? "Even" : "Odd";
          await docker.run({ name, env: { IAM_ROLE: roleArn(role) } });
          const { bridge } = await docker.addresses(name);
          const answer = await requestByCurl(docker, name);
          const roleSeen = JSON.stringify(answer.stdout);
          if (answer.code !== 0) t.fail(`round ${round}: no answer`, { answer });
          const key = /"AccessKeyId" : "(\w+)"/.exec(answer.stdout)?.[1] ?? "";
          if (seen.has(key)) t.fail(`round ${round}: the credentials of an earlier container`, { roleSeen });
          seen.add(key);
          if (round > 0 && bridge !== last) t.comment(`round ${round}: another address, ${bridge}`);
          last = bridge ?? "";
          await docker.remove(name);
        }
        t.equal(seen.size, rounds);
        const journal = await proxy.journal(2000);
        t.notMatch(journal, leakMarker);
      },
    );

    await t.test("a removed container is unknown", async (t) => {
      await docker.remove("env1");
      const answer = await host.exec(
        [node, `${repository}/src/main.ts`, "explain", "env1", "-c", proxy.configPath],
        { check: false },
      );
      t.equal(answer.code, 69);
      t.match(answer.stderr, /no running container/);
    });

    await t.test(
      "without the redirect a container's request fails and does not get the host's role",
      async (t) => {
        await host.exec("nft flush chain inet ec2metaproxy redirect_metadata");
        const answer = await requestByCurl(docker, "db1");
        t.not(answer.code, 0);
        t.notMatch(answer.stdout, leakMarker);
        await firewall(host, "apply");
        const again = await requestByCurl(docker, "db1");
        t.equal(again.code, 0, "apply restores the redirect");
      },
    );

    await t.test("with the proxy stopped a container is refused", async (t) => {
      await proxy.stop();
      const answer = await docker.inNetwork("db1", "curl -s -m 3 http://169.254.169.254/latest/meta-data/", {
        check: false,
      });
      t.equal(answer.code, 7, "curl: could not connect");
      t.notMatch(answer.stdout, leakMarker);
      await proxy.start();
      const again = await requestByCurl(docker, "db1");
      t.equal(again.code, 0);
    });
  });
}
