import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { property } from "../support/host/appliance.ts";
import type { Engine } from "../support/host/engine.ts";
import {
  answerOf,
  ask,
  type GuardedHost,
  guardedHost,
  guardSocket,
  guardUnit,
  proveBy,
  proxyUnit,
  requests,
  roleArn,
  start,
  status,
  whenLocked,
  whenServed,
} from "../support/host/guarded.ts";
import type { TestHost } from "../support/host/host.ts";
import { compareSets } from "../support/host/lock-sets.ts";
import { canBoot } from "../support/host/requirements.ts";

/**
 * The packaged guard and its port lock with real engines: what only the lock can identify, a guard that is
 * away, and many containers that come and go. CHURN=500 in `make proof`.
 */
const isProof = process.env.CHURN !== undefined;
const churn = Number(process.env.CHURN ?? 40);
const atOnce = 6;
const firstInstructions = 20;
const list = "http://169.254.169.254/latest/meta-data/iam/security-credentials/";

for (const suite of ["bookworm", "trixie"] as const) {
  if (!canBoot(t)) break;
  t.test(`${suite}: the guard with Docker and Podman`, async (t) => {
    const guarded = await guardedHost(t, suite);
    const { host, docker, podman } = guarded;

    await t.test("Docker in Docker is served under identityProof address, and only there", async (t) => {
      const inner = await dockerInDocker(guarded);
      const served = await inner();
      t.match(served.body, /"AccessKeyId"/, "with the role of the container that Docker runs in");
      t.equal((await sessions(guarded)).get(keyIn(served.body))?.replace(/-[0-9a-f]{12}$/, ""), "outer");
      t.match((await ask(docker, "outer")).body, /"AccessKeyId"/, "as is that container itself");

      await proveBy(host, "socket");
      const refused = await inner();
      t.notMatch(refused.body, /"AccessKeyId"/);
      t.equal(refused.token, "403", "there is no socket of the container");
      t.match(await host.journal(proxyUnit, 20), /code=no-such-socket/);
      t.match((await ask(docker, "outer")).body, /"AccessKeyId"/, "that container itself has one");
      await proveBy(host, "address");
      t.match((await inner()).body, /"AccessKeyId"/);
      await docker.remove("outer");
    });

    // The guard and the proxy do not differ between the hosts; engines and systemd do.
    const skip = suite === "trixie" && !isProof && "on bookworm here, on both by make proof";
    await t.test("while the guard is away, only new containers are refused", { skip }, async (t) => {
      await start(docker, "known1");
      await start(podman, "known2");
      for (const name of ["known1", "known2"]) await whenLocked(host, name);
      await slowRestarts(host);
      const absence = (name: string, what: string, begin: () => Promise<unknown>, reason: RegExp) =>
        t.test(what, async (t) => {
          await begin();
          await start(docker, name);
          const asked = await ask(docker, name);
          t.equal(asked.token, "503", "the new container has to try again");
          t.notMatch(asked.body, /"AccessKeyId"/);
          const { healthy, summary, guard } = await status(host);
          t.equal(healthy, false);
          t.match(summary, /guard .* not connected/);
          t.match(guard?.lastError, reason);
          await host.waitFor(
            async () => /guard .* not connected/.test(await property(host, proxyUnit, "StatusText")),
            { what: "systemctl status to say so" },
          );
          for (const [engine, known] of [
            [docker, "known1"],
            [podman, "known2"],
          ] as const)
            t.match((await ask(engine, known)).body, /"AccessKeyId"/, `${known} is served`);
          const seconds = await whenServed(host, docker, name);
          t.comment(`measured: ${name} was served ${seconds.toFixed(1)} s later, without anybody's help`);
          await host.waitFor(async () => (await status(host)).healthy, { what: "the status to be healthy" });
          t.match(await property(host, guardUnit, "ActiveState"), "active");
          await docker.remove(name);
        });
      const signal = (name: string) =>
        host.exec(`systemctl kill --kill-whom=main --signal=${name} ${guardUnit}`);

      await absence("killed", "it was killed", () => signal("KILL"), /ENOENT|ECONNREFUSED|ended/);
      await absence("hung", "it hangs", () => signal("STOP"), /no greeting|nothing for/);
    });

    await t.test("a socket that was removed is made again, and the proxy finds it", async (t) => {
      await start(docker, "early");
      await whenLocked(host, "early");
      // A folder in its place keeps the guard from making it again.
      await host.exec(`until rm -f ${guardSocket} && mkdir ${guardSocket}; do :; done`);
      // The proxy still has its connection to the guard.
      await start(docker, "unseen");
      await whenLocked(host, "unseen");
      t.match((await ask(docker, "unseen")).body, /"AccessKeyId"/);
      // A proxy that starts has none. What it does not know may be a container.
      await host.exec(`systemctl restart ${proxyUnit}`);
      t.equal((await ask(docker, "early")).token, "503");
      t.match((await status(host)).guard?.lastError, /EACCES|ECONNREFUSED/);
      await host.exec(`rmdir ${guardSocket}`);
      for (const name of ["early", "unseen"]) await whenServed(host, docker, name);
      t.match(await host.journal(guardUnit), /removed the guard's socket, and it cannot be made again/);
      t.match(await host.journal(guardUnit), /removed the guard's socket; it was made again/);
      await docker.remove("early", "unseen");
    });

    for (const cli of ["docker", "podman"] as const)
      await t.test(`a request by a container's first instruction under ${cli} is served`, async (t) => {
        const engine = cli === "docker" ? docker : podman;
        const outputs: string[] = [];
        // Each has a new role, so that nothing is cached.
        for (let round = 0; round < firstInstructions; round += 1)
          outputs.push(await runOnce(engine, `first${cli}${round}`, "wget"));
        t.same(await wrongSessions(guarded, outputs), []);
        t.equal(outputs.filter((output) => keyIn(output) !== "").length, firstInstructions);
      });

    await t.test(`${churn} containers come and go while the host is disturbed`, async (t) => {
      await docker.call(
        "network",
        "create",
        "--ipv6",
        "--subnet=fd00:77::/64",
        "--subnet=172.31.0.0/16",
        "dual",
      );
      await docker.call("network", "create", "second");
      const engines = [docker, podman];
      const outputs: string[] = [];
      const stay: [Engine, string][] = [];
      let begun = 0;
      const worker = async () => {
        while (begun < churn) {
          begun += 1;
          const name = `churn${begun}`;
          const engine = begun % 4 === 0 ? podman : docker;
          if (begun % 5 !== 0)
            outputs.push(await runOnce(engine, name, "twice", begun % 3 === 0 ? "dual" : ""));
          else if (await keep(engine, name)) stay.push([engine, name]);
        }
      };
      const disturbing = (async () => {
        const steps = [
          "nft flush ruleset",
          `systemctl restart ${guardUnit}`,
          `systemctl restart ${proxyUnit}`,
          "nft flush ruleset",
          "systemctl restart docker.service",
          "systemctl stop podman.socket podman.service; systemctl start podman.socket",
        ];
        for (const [index, step] of steps.entries()) {
          await host.waitFor(() => begun >= (churn * (index + 1)) / (steps.length + 1), {
            what: `the time for ${step}`,
            timeoutMs: 1_800_000,
          });
          await host.exec(step);
        }
      })();
      const startedAt = performance.now();
      await Promise.all([disturbing, ...Array.from({ length: atOnce }, worker)]);
      const seconds = (performance.now() - startedAt) / 1_000;
      const served = outputs.filter((output) => keyIn(output) !== "").length;
      t.comment(
        `measured: ${churn} containers in ${seconds.toFixed(0)} s; ${served} of ${outputs.length} that ended at once were served in spite of the disturbances`,
      );

      t.same(await wrongSessions(guarded, outputs), [], "nobody got another's credentials");
      // The containers that Docker's restart has ended are up again.
      await host.waitFor(
        async () =>
          (await Promise.all(stay.map(([engine, name]) => engine.pid(name)))).every((pid) => pid > 0),
        {
          what: "the containers with a restart policy to run",
        },
      );
      await sleep(1_000);
      const { found, wanted } = await compareSets(host, engines);
      t.same(found, wanted, "the lock is of the running containers");
      t.ok((wanted.port_mac?.length ?? 0) >= stay.length && stay.length > 0, `${stay.length} containers run`);
      const refused: string[] = [];
      for (const [engine, name] of stay) {
        const { token, body } = await ask(engine, name);
        if (!body.includes('"AccessKeyId"')) refused.push(`${name}: ${token} ${body}`);
      }
      t.same(refused, [], "each of them is served");
      t.match(await status(host), { healthy: true });
      for (const engine of engines)
        await engine.remove(...stay.flatMap(([of, name]) => (of === engine ? [name] : [])));
    });
  });
}

const keyIn = (answer: string) => /"AccessKeyId" : "(\w+)"/.exec(answer)?.[1] ?? "";

/** The session of each access key that STS issued: `NAME-ID`, with the first digits of the container's id. */
async function sessions({ aws }: GuardedHost): Promise<ReadonlyMap<string, string>> {
  return new Map(
    (await aws.secrets()).map(({ accessKeyId, arn }) => [accessKeyId, arn.split("/").at(-1) ?? ""]),
  );
}

/** @param outputs of `runOnce` */
async function wrongSessions(guarded: GuardedHost, outputs: readonly string[]): Promise<readonly string[]> {
  const byKey = await sessions(guarded);
  return outputs.flatMap((output) =>
    [...output.matchAll(/"AccessKeyId" : "(\w+)"/g)].flatMap(([, key = ""]) => {
      const session = byKey.get(key) ?? "unknown";
      const [name = ""] = output.split("\n");
      return session.startsWith(`${name}-`) ? [] : [`${name} got ${session}`];
    }),
  );
}

/** Runs a container that asks for its role and ends. Prints its name on the first line, then the answers. */
async function runOnce(engine: Engine, name: string, how: "wget" | "twice", network = ""): Promise<string> {
  const url = `${list}${name}`;
  const twice = `wget -q -O - ${url} 2>/dev/null; wget -q -O - ${url} 2>/dev/null`;
  // Without a shell, the request is the first that the container does.
  const command = how === "wget" ? ["/bin/wget", "-q", "-O", "-", url] : ["/bin/sh", "-c", twice];
  const args = ["run", "--rm", `--name=${name}`, `--env=IAM_ROLE=${roleArn(name)}`];
  if (engine.cli === "docker" && network !== "") args.push(`--network=${network}`);
  const answer = await engine.call(...args, imageOf(engine), ...command).catch(() => "");
  return `${name}\n${answer}`;
}

/** Starts a container that stays. Docker's are on two networks. @returns false if the engine was away */
async function keep(engine: Engine, name: string): Promise<boolean> {
  try {
    await start(engine, name, engine.cli === "docker" ? { network: "dual", args: ["--restart=always"] } : {});
    if (engine.cli === "docker") await engine.call("network", "connect", "second", name);
    return true;
  } catch {
    await engine.remove(name).catch(() => {});
    return false;
  }
}

const imageOf = (engine: Engine) => (engine.cli === "podman" ? "localhost/bb:latest" : "bb:latest");

/**
 * Starts a Docker engine in the container `outer`, and a container in that.
 * @returns a request from the inner container, for the outer one's role
 */
async function dockerInDocker({ host, docker }: GuardedHost) {
  const system = ["/usr:/usr", "/usr/bin:/bin", "/usr/sbin:/sbin", "/usr/lib:/lib", "/usr/lib64:/lib64"];
  const mounts = [...system, "/etc/alternatives:/etc/alternatives"].map((mount) => `--volume=${mount}:ro`);
  // As --privileged, as far as a test host can give it.
  const privileges = ["seccomp", "apparmor", "systempaths"].map((one) => `--security-opt=${one}=unconfined`);
  // Docker 20 fails with a capability that the test host lacks; Docker 26 leaves it out, and fails with this.
  const unavailable = host.suite === "bookworm" ? ["--cap-drop=SYS_RESOURCE"] : [];
  const daemon = "dockerd --storage-driver=vfs --group=0 --ip6tables=false";
  await start(docker, "outer", {
    args: [
      ...["--cap-add=ALL", ...unavailable, ...privileges, ...mounts],
      ...["--tmpfs=/run", "--tmpfs=/var/lib/docker:exec", "--env=PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
    ],
    command: [
      "sh",
      "-c",
      `mount -o remount,rw /sys/fs/cgroup; mount -o remount,rw /proc/sys; exec ${daemon}`,
    ],
  });
  await host.waitFor(async () => (await docker.inside("outer", "docker info", { check: false })).code === 0, {
    what: "the inner engine",
  });
  await docker.inside("outer", "docker import /usr/local/lib/testhost/bb.tar in:latest");
  await docker.inside("outer", "docker run --detach --name inner in:latest sleep 3600");
  const { stdout } = await docker.inside("outer", "docker inspect --format '{{.State.Pid}}' inner");
  const enter = [
    "nsenter",
    `--target=${stdout.trim()}`,
    "--net",
    "sh",
    "-c",
    requests("curl -s -m 10", "outer"),
  ];
  return async () => answerOf(await docker.inside("outer", enter, { check: false }));
}

/** Leaves time for a new container to ask while the guard is away. */
async function slowRestarts(host: TestHost): Promise<void> {
  const dropIn = `/etc/systemd/system/${guardUnit}.d/slow.conf`;
  await host.write(dropIn, "[Service]\nRestartSec=12\nWatchdogSec=15\n");
  await host.exec(`systemctl daemon-reload; systemctl restart ${guardUnit}`);
  await host.waitFor(async () => (await status(host)).healthy, { what: "the proxy to follow the new guard" });
}
