import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { type AwsSide, startAws } from "../support/host/aws.ts";
import { bootFor } from "../support/host/boot.ts";
import { containerEngine, type Engine } from "../support/host/engine.ts";
import { node, repository, type TestHost } from "../support/host/host.ts";
import { hostProxy } from "../support/host/proxy.ts";
import { canBoot } from "../support/host/requirements.ts";
import { startProxy } from "../support/proxy.ts";

/**
 * A container gets its own credentials while containers come and go quickly, addresses are reused, and the
 * engine's API is cut off.
 */
const total = Number(process.env.CONTAINERS ?? 500);
const atOnce = 8;
const account = "123456789012";
const roleArn = (name: string) => `arn:aws:iam::${account}:role/containers/${name}`;
const list = "http://169.254.169.254/latest/meta-data/iam/security-credentials/";
const config = (dockerHost: string) => ({
  allowRoleArns: [roleArn("*")],
  // busybox's wget cannot send a PUT.
  httpTokens: "optional",
  dockerHost,
});

/** Stands between the proxy and the engine's socket, to cut off the API only. */
type Link = { readonly host: string; cut(): Promise<void>; restore(): Promise<void> };

async function linkToEngine(host: TestHost): Promise<Link> {
  const unit = (name: string, lines: string) => host.write(`/etc/systemd/system/engine-link.${name}`, lines);
  await unit("socket", "[Socket]\nListenStream=/run/engine-link.sock\nSocketMode=0666\n");
  await unit("service", "[Service]\nExecStart=/lib/systemd/systemd-socket-proxyd /run/docker.sock\n");
  await host.exec("systemctl daemon-reload && systemctl start engine-link.socket");
  return {
    host: "unix:///run/engine-link.sock",
    cut: async () =>
      void (await host.exec(
        "systemctl stop engine-link.socket engine-link.service; rm -f /run/engine-link.sock",
      )),
    restore: async () => void (await host.exec("systemctl start engine-link.socket")),
  };
}

async function prepared(t: Parameters<typeof bootFor>[0], suite: "bookworm" | "trixie") {
  const host = await bootFor(t, { suite });
  const aws = await startAws(host);
  const docker = await containerEngine(host, "docker");
  const link = await linkToEngine(host);
  const proxy = await startProxy(hostProxy(host), config(link.host));
  await host.exec([node, `${repository}/src/main.ts`, "firewall", "apply"]);
  return { host, aws, docker, link, proxy };
}

/** The session of each access key that STS issued: `NAME-ID`, with the container's id. */
async function sessions(aws: AwsSide): Promise<Map<string, string>> {
  return new Map(
    (await aws.secrets()).map(({ accessKeyId, arn }) => [accessKeyId, arn.split("/").at(-1) ?? ""]),
  );
}

const keyIn = (answer: string) => /"AccessKeyId" : "(\w+)"/.exec(answer)?.[1];

/** The ids of the containers that the proxy knows. */
async function knownContainers(host: TestHost): Promise<string[]> {
  const env = { RUNTIME_DIRECTORY: "/run/ec2metaproxy-source" };
  const command = [node, `${repository}/src/main.ts`, "status", "--json"];
  const { stdout } = await host.exec(command, { env, check: false });
  const status: { containers: readonly { id: string }[] } = JSON.parse(stdout);
  return status.containers.map(({ id }) => id).sort();
}

for (const suite of ["bookworm", "trixie"] as const) {
  if (!canBoot(t)) break;

  t.test(
    `on ${suite} a request by a container's first instruction gets the container's own credentials, 20 of 20 times`,
    async (t) => {
      const { aws, docker } = await prepared(t, suite);
      const answers: string[] = [];
      for (let round = 0; round < 20; round += 1) {
        const role = `First${round}`;
        // The client is the container's command, without a shell. Each round has a new role, so that nothing
        // is cached.
        const args = ["run", "--rm", `--env=IAM_ROLE=${roleArn(role)}`, `--name=first${round}`, "bb:latest"];
        answers.push(
          await docker.call(...args, "/bin/wget", "-q", "-O", "-", `${list}${role}`).catch(String),
        );
      }
      const byKey = await sessions(aws);
      const owners = answers.map((answer) => byKey.get(keyIn(answer) ?? "")?.replace(/-[0-9a-f]{12}$/, ""));
      t.same(
        owners,
        Array.from({ length: 20 }, (_, round) => `first${round}`),
      );
    },
  );
}

if (canBoot(t)) {
  t.test(
    "an address that is reused while the engine's API is cut off never gets the old owner's credentials",
    async (t) => {
      const { host, aws, docker, link, proxy } = await prepared(t, "bookworm");
      await docker.call("network", "create", "--subnet=172.31.0.0/16", "shared");
      const owner = (name: string) =>
        docker.run({
          name,
          network: "shared",
          env: { IAM_ROLE: roleArn(name) },
          args: ["--ip", "172.31.0.10"],
        });
      const ask = async (name: string, role = name) =>
        (await docker.inNetwork(name, `curl -s -m 5 ${list}${role}`, { check: false })).stdout;
      const sessionOf = async (answer: string) => (await sessions(aws)).get(keyIn(answer) ?? "");

      await owner("Before");
      await host.waitFor(async () => (await sessionOf(await ask("Before")))?.startsWith("Before-"), {
        what: "the first owner",
      });
      await link.cut();
      t.match(await sessionOf(await ask("Before")), /^Before-/, "a known container is served during the cut");
      await docker.remove("Before");
      await owner("After");
      const seen: string[] = [];
      for (let tries = 0; tries < 20; tries += 1) seen.push(await ask("After", "Before"), await ask("After"));
      t.same(
        seen.filter((answer) => keyIn(answer) !== undefined),
        [],
        "the new owner gets nothing during the cut",
      );
      await link.restore();
      for (const end = Date.now() + 20_000; Date.now() < end; ) {
        const answers = [await ask("After", "Before"), await ask("After")];
        seen.push(...answers);
        if (answers.some((answer) => keyIn(answer) !== undefined)) break;
      }
      const owners = await Promise.all(seen.filter((answer) => keyIn(answer) !== undefined).map(sessionOf));
      t.ok(owners.length > 0, "the new owner is served after the cut");
      t.same(
        owners.filter((session) => !session?.startsWith("After-")),
        [],
        "with its own",
      );
      t.match(await proxy.journal(), /container-gone/);
    },
  );

  t.test(
    `${total} containers as fast as the engine can, cuts and a restart of the engine in between: each only ever gets its own`,
    async (t) => {
      const { host, aws, docker, link } = await prepared(t, "bookworm");
      const outputs: string[] = [];
      let begun = 0;
      const worker = async () => {
        while (begun < total) {
          begun += 1;
          outputs.push(await runOnce(docker, `fast${begun}`));
        }
      };
      const disturbing = (async () => {
        const at = (share: number) =>
          host.waitFor(() => begun >= total * share, { what: `${share}`, timeoutMs: 600_000 });
        for (const share of [0.2, 0.4]) {
          await at(share);
          await link.cut();
          await sleep(1500);
          await link.restore();
        }
        await at(0.6);
        await host.exec("systemctl restart docker.service");
      })();
      await Promise.all([disturbing, ...Array.from({ length: atOnce }, worker)]);

      const byKey = await sessions(aws);
      const wrong: string[] = [];
      let served = 0;
      for (const output of outputs) {
        const [id = "", ...answers] = output.split("\n");
        for (const key of answers.join("\n").matchAll(/"AccessKeyId" : "(\w+)"/g)) {
          served += 1;
          const session = byKey.get(key[1] ?? "") ?? "unknown";
          if (id === "" || !session.endsWith(`-${id}`)) wrong.push(`${id} got ${session}`);
        }
      }
      t.comment(`measured: ${served} answers with credentials for ${outputs.length} containers`);
      t.same(wrong, []);
      t.ok(served > total / 2, "most were served nevertheless");

      for (const name of ["kept1", "kept2", "kept3"])
        await docker.run({ name, env: { IAM_ROLE: roleArn("Kept") } });
      const running = async () =>
        (await docker.call("ps", "--no-trunc", "--format={{.ID}}")).split("\n").filter(Boolean).sort();
      await host.waitFor(async () => (await knownContainers(host)).join() === (await running()).join(), {
        what: "the directory to equal docker ps",
      });
      t.equal((await running()).length, 3);
    },
  );
}

/** Prints the container's id on the first line, then the answers to two requests. */
async function runOnce(docker: Engine, name: string): Promise<string> {
  const ask = `wget -q -O - ${list}${name} 2>/dev/null`;
  const args = ["run", "--rm", `--name=${name}`, `--env=IAM_ROLE=${roleArn(name)}`, "bb:latest"];
  return await docker.call(...args, "/bin/sh", "-c", `hostname; ${ask}; ${ask}`).catch(() => "");
}
