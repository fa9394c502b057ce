import t from "tap";
import { startAws } from "../support/host/aws.ts";
import { bootFor } from "../support/host/boot.ts";
import { containerIdentity } from "../support/host/clients.ts";
import { containerEngine, type Engine } from "../support/host/engine.ts";
import { node, repository, type TestHost } from "../support/host/host.ts";
import { hostProxy } from "../support/host/proxy.ts";
import { canBoot } from "../support/host/requirements.ts";
import { startProxy } from "../support/proxy.ts";

/**
 * The proof of identity with every kind of container: engines, networks, address families, namespaces,
 * states, many sockets.
 */
const account = "123456789012";
const roleArn = (name: string) => `arn:aws:iam::${account}:role/containers/${name}`;
const session = (role: string, name = role) =>
  new RegExp(`^arn:aws:sts::${account}:assumed-role/${role}/${name}-[0-9a-f]{12}$`);
const config = (dockerHosts: readonly string[]) => ({ allowRoleArns: [roleArn("*")], dockerHosts });
const dockerSocket = "unix:///var/run/docker.sock";
const podmanSocket = "unix:///run/podman/podman.sock";
const imds6 = "http://[fd00:ec2::254]/latest";

const applyFirewall = (host: TestHost) => host.exec([node, `${repository}/src/main.ts`, "firewall", "apply"]);

const run = (engine: Engine, name: string, network?: string, args: readonly string[] = []) =>
  engine.run({ name, env: { IAM_ROLE: roleArn(name) }, args, ...(network !== undefined && { network }) });

async function arnOf(engine: Engine, name: string): Promise<string> {
  const identity = await containerIdentity(engine, name, "boto3");
  return "arn" in identity ? identity.arn : identity.error;
}

/** Requests credentials over IMDSv2 with curl, from any of the container's addresses. */
const requestByCurl = (
  engine: Engine,
  name: string,
  role: string,
  base = "http://169.254.169.254/latest",
  curl = "curl",
) =>
  engine.inNetwork(
    name,
    `T=$(${curl} -s -g -m 3 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' '${base}/api/token')
     ${curl} -s -g -m 5 -H "X-aws-ec2-metadata-token: $T" '${base}/meta-data/iam/security-credentials/${role}'`,
    { check: false },
  );

/** Lets the proxy's user open Podman's socket, as the manual describes. */
async function openPodmanSocket(host: TestHost): Promise<void> {
  const lines = "[Socket]\nSocketMode=0660\nSocketGroup=docker\nDirectoryMode=0755\n";
  await host.write("/etc/systemd/system/podman.socket.d/group.conf", lines);
  await host.exec("systemctl daemon-reload; systemctl restart podman.socket; chmod 0755 /run/podman");
}

for (const suite of ["bookworm", "trixie"] as const) {
  if (!canBoot(t)) break;

  t.test(`${suite}: with Docker and Podman together, each container gets its own role`, async (t) => {
    const host = await bootFor(t, { suite });
    await startAws(host);
    const docker = await containerEngine(host, "docker");
    const podman = await containerEngine(host, "podman");
    await openPodmanSocket(host);
    const proxy = await startProxy(hostProxy(host), config([dockerSocket, podmanSocket]));
    await applyFirewall(host);

    await run(docker, "Docked");
    await run(podman, "Podded");
    t.match(await arnOf(docker, "Docked"), session("Docked"));
    t.match(await arnOf(podman, "Podded"), session("Podded"));

    await t.test("on a network created with Podman, and in another container's network", async (t) => {
      await podman.call("network", "create", "own");
      await run(podman, "Owned", "own");
      t.match(await arnOf(podman, "Owned"), session("Owned"));
      await run(podman, "Sidecar", "container:Owned");
      t.match(
        await arnOf(podman, "Sidecar"),
        session("Owned"),
        "it is identified as the container whose network it shares",
      );
    });

    await t.test("a request by a container's first instruction under Podman, 10 of 10 times", async (t) => {
      await proxy.writeConfig({ ...config([dockerSocket, podmanSocket]), httpTokens: "optional" });
      await proxy.restart();
      const answers: string[] = [];
      for (let round = 0; round < 10; round += 1) {
        const url = `http://169.254.169.254/latest/meta-data/iam/security-credentials/First${round}`;
        const args = ["run", "--rm", `--env=IAM_ROLE=${roleArn(`First${round}`)}`, "localhost/bb:latest"];
        answers.push(await podman.call(...args, "/bin/wget", "-q", "-O", "-", url).catch(String));
      }
      t.same(
        answers.filter((answer) => !answer.includes("AccessKeyId")),
        [],
      );
    });

    await t.test("when one engine stops, the containers of both are served", async (t) => {
      await host.exec("systemctl stop podman.socket podman.service");
      t.match(await arnOf(docker, "Docked"), session("Docked"));
      t.match(await arnOf(podman, "Podded"), session("Podded"), "known containers of the stopped engine too");
    });
  });

  t.test(`${suite}: address families, states and many sockets`, async (t) => {
    const host = await bootFor(t, { suite });
    await startAws(host);
    const docker = await containerEngine(host, "docker");
    const proxy = await startProxy(hostProxy(host, ["LimitNOFILE=65536"]), config([dockerSocket]));
    await applyFirewall(host);
    await docker.call(
      "network",
      "create",
      "--ipv6",
      "--subnet=fd00:77::/64",
      "--subnet=172.30.0.0/16",
      "dual",
    );
    await run(docker, "Dual", "dual");

    await t.test("a dual-stack container over IPv4 and over IPv6", async (t) => {
      t.match(await arnOf(docker, "Dual"), session("Dual"));
      const answer = await requestByCurl(docker, "Dual", "Dual", imds6);
      t.match(answer.stdout, /"AccessKeyId"/);
    });

    await t.test("IPv4 from an IPv6 socket, as JVMs use it", async (t) => {
      const script = `import socket
s = socket.socket(socket.AF_INET6); s.connect(("::ffff:169.254.169.254", 80))
s.sendall(b"PUT /latest/api/token HTTP/1.1\\r\\nHost: 169.254.169.254\\r\\nX-aws-ec2-metadata-token-ttl-seconds: 60\\r\\n\\r\\n")
print(s.recv(4096).decode().split("\\r\\n")[0])`;
      const answer = await docker.inNetwork("Dual", ["python3", "-c", script], { check: false });
      t.match(answer.stdout, /^HTTP\/1\.1 200/);
    });

    await t.test("a container without IPv4", async (t) => {
      await run(docker, "Six", "dual");
      await docker.inNetwork("Six", "ip -4 address flush dev eth0");
      const answer = await requestByCurl(docker, "Six", "Six", imds6);
      t.match(answer.stdout, /"AccessKeyId"/);
    });

    await t.test("a container that was paused, and one that shares another's network", async (t) => {
      await docker.call("pause", "Dual");
      await docker.call("unpause", "Dual");
      t.match(await arnOf(docker, "Dual"), session("Dual"));
      await run(docker, "Beside", "container:Dual");
      t.match(await arnOf(docker, "Beside"), session("Dual"));
    });

    await t.test(
      "a client one hop behind a container, as in Docker in Docker, is not served as the container",
      async (t) => {
        await run(docker, "Outer");
        const pid = await docker.pid("Outer");
        await host.exec(`set -e
        ip netns add behind
        ip link add up0 netns ${pid} type veth peer name eth0 netns behind
        nsenter --target ${pid} --net sh -ec '
          ip address add 10.99.0.1/24 dev up0; ip link set up0 up; echo 1 > /proc/sys/net/ipv4/ip_forward
          nft add table ip own; nft "add chain ip own out { type nat hook postrouting priority 100; }"
          nft add rule ip own out oifname eth0 masquerade'
        ip -n behind address add 10.99.0.2/24 dev eth0; ip -n behind link set eth0 up; ip -n behind route add default via 10.99.0.1`);
        const url = "http://169.254.169.254/latest";
        const request = () =>
          host.exec(
            `T=$(ip netns exec behind curl -sf -m 3 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' ${url}/api/token)
echo "token: \${T:-none}"
ip netns exec behind curl -s -m 5 -H "X-aws-ec2-metadata-token: $T" ${url}/meta-data/iam/security-credentials/Outer`,
            { check: false },
          );
        const refused = await request();
        t.match(refused.stdout, /^token: none$/m, "it gets no session token");
        t.notMatch(refused.stdout, /AccessKeyId/);
        t.match(await proxy.journal(), /code=no-such-socket/);
        t.match(await arnOf(docker, "Outer"), session("Outer"), "the container itself is served");

        await proxy.writeConfig({ ...config([dockerSocket]), identityProof: "off" });
        await proxy.restart();
        t.match(
          (await request()).stdout,
          /"AccessKeyId"/,
          "without the proof it would get the container's role",
        );
        await proxy.writeConfig(config([dockerSocket]));
        await proxy.restart();
      },
    );

    await t.test("a container with 18,000 open sockets", async (t) => {
      await run(docker, "Busy");
      const script = `import socket, time
l = socket.socket(); l.bind(("127.0.0.1", 18000)); l.listen(1000); kept = []
for _ in range(9000):
  c = socket.create_connection(("127.0.0.1", 18000)); kept += [c, l.accept()[0]]
print("open", flush=True); time.sleep(120)`;
      const pid = await docker.pid("Busy");
      const holding = host.spawn(["nsenter", "--target", String(pid), "--net", "python3", "-c", script]);
      t.teardown(() => holding.stop());
      await host.waitFor(() => holding.stdout.includes("open"), { timeoutMs: 60_000, what: "the sockets" });
      t.match(await arnOf(docker, "Busy"), session("Busy"));
    });
  });
}

if (canBoot(t)) {
  t.test("a container whose user namespace is remapped gets its role", async (t) => {
    const host = await bootFor(t, { suite: "bookworm" });
    await startAws(host);
    await host.write("/etc/docker/daemon.json", '{ "userns-remap": "default" }');
    await host.exec("systemctl restart docker");
    const docker = await containerEngine(host, "docker");
    await startProxy(hostProxy(host), config([dockerSocket]));
    await applyFirewall(host);
    await run(docker, "Mapped");
    const pid = await docker.pid("Mapped");
    const uid = (await host.exec(`stat -c %u /proc/${pid}`)).stdout.trim();
    t.not(uid, "0", "its root is not the host's root");
    t.match(await arnOf(docker, "Mapped"), session("Mapped"));
  });

  t.test("a swarm's containers, whose requests come from docker_gwbridge, get their roles", async (t) => {
    const host = await bootFor(t, { suite: "bookworm" });
    await startAws(host);
    const docker = await containerEngine(host, "docker");
    await startProxy(hostProxy(host), config([dockerSocket]));
    await applyFirewall(host);
    // The swarm can advertise the address on the link to AWS.
    await docker.call("swarm", "init", "--advertise-addr=10.200.0.1");
    await docker.call("network", "create", "--driver=overlay", "--attachable", "overlay");
    await run(docker, "Attached", "overlay");
    t.match(await arnOf(docker, "Attached"), session("Attached"));
    const env = `--env=IAM_ROLE=${roleArn("Task")}`;
    const command = ["bb:latest", "/bin/sleep", "600"];
    await docker.call("service", "create", "--detach", "--name=svc", "--network=overlay", env, ...command);
    const task = await host.waitFor(
      async () => (await docker.call("ps", "--quiet", "--filter=name=svc.1")) || undefined,
      {
        what: "the service's task",
      },
    );
    t.match(await arnOf(docker, task), /assumed-role\/Task\/svc\.1\./);
  });
}
