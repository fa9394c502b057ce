import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { imdsUrl, imdsUrl6, startAws } from "../support/host/aws.ts";
import { bootFor } from "../support/host/boot.ts";
import { containerIdentity, hostIdentity } from "../support/host/clients.ts";
import { containerEngine } from "../support/host/engine.ts";
import { canBoot } from "../support/host/requirements.ts";
import { rootFileSystem, type Suite } from "../support/host/root.ts";
import { runsDirectory } from "../support/host/run-directory.ts";

const suites = ["bookworm", "trixie"] as const satisfies readonly Suite[];
const hostRole = { arn: "arn:aws:sts::123456789012:assumed-role/ec2-host-role/i-0abcdef0123456789" };
const token = "curl -sS --max-time 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60'";

// The first run on a machine builds the roots.
t.setTimeout(30 * 60_000);

if (canBoot(t)) {
  for (const suite of suites) {
    t.test(`${suite}: without the proxy a container sees AWS as on EC2`, async (t) => {
      const host = await bootFor(t, { suite });
      const aws = await startAws(host);
      const docker = await containerEngine(host, "docker");

      await docker.run({ name: "c1", labels: { "a.b": "c d" }, env: { E: "f g" } });
      t.match((await docker.addresses("c1")).bridge, /^172\.17\.0\./);
      t.equal((await docker.inside("c1", 'echo "$E"')).stdout, "f g\n");
      t.same(await containerIdentity(docker, "c1"), hostRole, "the AWS CLI in the container's network");
      t.same(await containerIdentity(docker, "c1", "boto3"), hostRole, "boto3 in the container's network");
      t.same(await hostIdentity(host), hostRole, "the AWS CLI on the host");

      await docker.call("network", "create", "--ipv6", "--subnet=fd00:77::/64", "six");
      await docker.run({ name: "c6", network: "six" });
      const answer = await docker.inNetwork("c6", `${token} '${imdsUrl6}/latest/api/token'`);
      t.equal(answer.stdout.length, 56, "a token over IPv6");

      t.ok((await aws.requests()).some(({ method, url }) => method === "PUT" && url === "/latest/api/token"));
      t.equal((await aws.secrets()).length > 0, true);
      await aws.setFaults({ imds: { status: 503 } });
      const refused = await docker.inNetwork(
        "c1",
        `${token} -o /dev/null -w '%{http_code}' ${imdsUrl}/latest/api/token`,
      );
      t.equal(refused.stdout, "503");
      await aws.reset();

      await host.reboot();
      await docker.call("start", "c1");
      t.same(await containerIdentity(docker, "c1"), hostRole, "after a reboot");
    });

    t.test(`${suite}: netfilter and its tools work, and Podman works as Docker does`, async (t) => {
      const host = await bootFor(t, { suite });
      await startAws(host);
      const podman = await containerEngine(host, "podman");
      await podman.run({ name: "p1", labels: { "a.b": "c" } });
      t.same(await containerIdentity(podman, "p1"), hostRole);
      const version = await host.exec("curl -sS --unix-socket /run/podman/podman.sock http://engine/version");
      t.match(JSON.parse(version.stdout), { ApiVersion: /^1\.4\d/, Components: [{ Name: "Podman Engine" }] });

      for (const command of [
        "nft add table inet probe && nft delete table inet probe",
        "iptables -w -N PROBE && iptables -w -X PROBE && ip6tables -w -N PROBE && ip6tables -w -X PROBE",
        "iptables-legacy -w -t nat -N PROBE && ip6tables-legacy -w -t nat -N PROBE",
        "conntrack -L",
        "systemctl start firewalld && firewall-cmd --state && systemctl stop firewalld",
        "ufw --force enable && ufw reload && ufw --force disable",
      ])
        await t.test(command, async (t) => {
          const { code, stderr } = await host.exec(command, { check: false });
          t.equal(code, 0, stderr.trim());
        });
      const units = await host.exec("systemctl list-units --failed --plain --no-legend");
      t.equal(units.stdout, "", "no unit failed");
    });
  }

  t.test(
    "two hosts are isolated from each other, and a host whose owner was killed is removed by the next boot",
    async (t) => {
      const owner = spawn(process.execPath, [join(import.meta.dirname, "../support/host/abandoned.ts")], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      t.teardown(() => owner.kill("SIGKILL"));
      const [line] = await once(owner.stdout.setEncoding("utf8"), "data");
      const abandoned = join(runsDirectory(), String(line).trim());
      const first = await bootFor(t, { suite: "bookworm", name: "first" });
      t.ok(existsSync(abandoned), "it is not removed while its owner runs");

      await first.exec("ip link add only-here type bridge && systemctl stop docker.service docker.socket");
      const second = await bootFor(t, { suite: "bookworm", name: "second" });
      t.notOk((await second.exec("ip link")).stdout.includes("only-here"));
      t.equal((await second.exec("systemctl is-active docker")).stdout, "active\n");
      await first[Symbol.asyncDispose]();
      t.equal(
        (await second.exec("systemctl is-active docker")).stdout,
        "active\n",
        "one host ends, the other stays",
      );

      owner.kill("SIGKILL");
      await once(owner, "close");
      await bootFor(t, { suite: "bookworm", name: "third" });
      t.notOk(existsSync(abandoned), "nothing is left of it");
    },
  );

  t.test("two concurrent builds of a root share one root", async (t) => {
    const [one, two] = await Promise.all([rootFileSystem("bookworm"), rootFileSystem("bookworm")]);
    t.equal(one, two);
  });
}
