import { type AddressInfo, createServer } from "node:net";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { explain as explainCommand } from "../../../src/commands/explain.ts";
import { status as statusCommand } from "../../../src/commands/status.ts";
import { readEnvironment } from "../../../src/config/load.ts";
import { processStartedAt } from "../../../src/containers/proc.ts";
import { adminSocketName, askAdmin } from "../../../src/observability/admin.ts";
import { account } from "../../support/aws/account.ts";
import { startAws } from "../../support/aws/aws.ts";
import { localProxy } from "../../support/local-proxy.ts";
import { startProxy } from "../../support/proxy.ts";
import { ask } from "../../support/raw-http.ts";
import { GivenGuard } from "../guard/fixture.ts";
import { engineContainer, listPath } from "../imds/fixture.ts";

/** The program itself, as a process of its own, with a guard. */
const role = `arn:aws:iam::${account.id}:role/containers/Web`;
const pidStartedAt = (await processStartedAt("/proc", process.pid)) ?? 0;
const victim = engineContainer("aa", "127.0.0.21", { pid: process.pid, pidStartedAt });
const silent = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

async function until(holds: () => boolean | Promise<boolean>, withinMs = 5_000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`it has not come true in ${withinMs} ms`);
    await sleep(50);
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo; // an object for a TCP server
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const port = (address: string) => Number(new URL(address).port);

t.test("serve --guard: no engine is contacted, and status, reload and the log know the guard", async (t) => {
  await using guard = await GivenGuard.listen(victim);
  await using aws = await startAws({});
  const engine = join(dirname(guard.path), "docker.sock");
  let contacts = 0;
  const server = createServer((socket) => {
    contacts += 1;
    socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(engine, resolve));
  t.teardown(() => server.close());
  const config = {
    dockerHost: `unix://${engine}`,
    identityProof: "address",
    httpTokens: "optional",
    defaultAlias: "web",
    aliasToARN: { web: role },
    metadataEndpoint: aws.imds.url,
    sts: { region: account.region, endpoint: aws.sts.url },
  };
  await using proxy = await startProxy(await localProxy([], ["--guard", guard.path]), config);
  const list = async (from = "127.0.0.21") => ask({ port: port(proxy.endpoint), from }, "GET", listPath);
  t.match(await list(), { status: 200, body: "Web" });
  t.match(proxy.log(), /following the guard/);

  guard.publish(victim, { locked: false, reason: "no port of a bridge leads into it" });
  await sleep(200);
  t.equal((await list()).status, 503);
  t.match(await askAdmin(join(proxy.directory, adminSocketName)), {
    healthy: false,
    summary: /1 container not locked and therefore refused/,
    identityProof: "address",
    guard: { path: guard.path, connected: true, version: "1.1.0" },
    containers: [{ name: victim.name, protection: { locked: false, reason: /no port/ } }],
  });
  t.match(proxy.log(), /address-not-locked/);

  await proxy.writeConfig({ ...config, identityProof: "socket", dockerHost: "unix:///run/other.sock" });
  process.kill(proxy.pid(), "SIGHUP");
  await until(() => /configuration reloaded/.test(proxy.log()));
  t.match(proxy.log(), /takes effect when ec2metaproxy-guard is restarted/);
  t.equal((await list()).status, 403, "the test's connection is none to the metadata service");

  await guard.guard.close();
  await until(() => /cannot follow the guard/.test(proxy.log()));
  t.equal((await list("127.0.0.40")).status, 503);
  t.equal(contacts, 0);
});

t.test('serve without --guard refuses "address" at the start, and at a reload', async (t) => {
  await using aws = await startAws({});
  const config = { metadataEndpoint: aws.imds.url, dockerHost: "unix:///nonexistent/docker.sock" };
  await using proxy = await startProxy(await localProxy(), config);
  await proxy.writeConfig({ ...config, identityProof: "address" });
  process.kill(proxy.pid(), "SIGHUP");
  await until(() => /identityProof.*relies on the port lock.*--guard/.test(proxy.log()));
  t.match(proxy.log(), /reload refused/);
  await t.rejects(proxy.restart(), "it does not start");
  t.match(proxy.log(), /config\.json has 1 problem/);
  t.match(proxy.log(), /Start it with --guard \/run\/ec2metaproxy-guard\/containers\.sock, or use/);
});

t.test(
  "an outage with one container: status, explain, /healthz and the metrics say so, with cause and cure",
  { timeout: 120_000 },
  async (t) => {
    await using guard = await GivenGuard.listen(victim);
    await using aws = await startAws({});
    const metricsPort = await freePort();
    const config = {
      identityProof: "address",
      httpTokens: "optional",
      defaultAlias: "web",
      aliasToARN: { web: role },
      metadataEndpoint: aws.imds.url,
      metricsListen: `127.0.0.1:${metricsPort}`,
      sts: { region: account.region, endpoint: aws.sts.url },
    };
    aws.imds.setFaults({ status: 403 });
    await using proxy = await startProxy(await localProxy([], ["--guard", guard.path]), config);
    const environment = { ...readEnvironment({}), runtimeDirectory: proxy.directory };
    const say = async (command: (print: (text: string) => void) => Promise<number>) => {
      const printed: string[] = [];
      const code = await command((text) => void printed.push(text));
      return { code, text: printed.join("\n") };
    };
    const status = () => say((print) => statusCommand({ json: false, watch: false }, environment, print));
    const explain = (container: string) =>
      say((print) =>
        explainCommand({ configPath: undefined, container, json: false }, environment, print, silent),
      );
    const get = async (path: string) => {
      const answer = await fetch(`http://127.0.0.1:${metricsPort}${path}`);
      return { status: answer.status, text: await answer.text() };
    };

    // Credentials may take their time, but not more than ten seconds.
    await until(async () => (await get("/healthz")).status === 503, 60_000);
    const list = `${listPath}Web`;
    t.equal((await ask({ port: port(proxy.endpoint), from: "127.0.0.21" }, "GET", list)).status, 503);
    await until(
      async () => /containers FAILING.*metadata FAILING.*sts FAILING/.test((await status()).text),
      60_000,
    );
    const sick = await status();
    t.equal(sick.code, 1);
    t.match(sick.text, /^Serving 1 container, 1 with a role, 1 NOT SERVED; .*status 403/);
    // That line says it once; below, each problem is whole.
    t.match(
      sick.text,
      /^Serving .*403: .*; roles cannot be assumed for the same reason; c-aa: has no credentials for \S+ for the same reason$/m,
    );
    t.match(sick.text, /PROBLEM +sts: roles cannot be assumed: the instance metadata service answers 403: /);
    t.match(sick.text, /PROBLEM +metadata: the instance metadata service answers 403: /);
    t.match(sick.text, /-> Turn it on: `aws ec2 modify-instance-metadata-options/);
    t.match(sick.text, /NOT SERVED; 1 requests, 1 refused/);
    const explained = await explain("127.0.0.21");
    t.equal(explained.code, 1);
    t.match(explained.text, /^c-aa DOES NOT GET the role Web: it has no credentials for .* answers 403: /);
    const metrics = (await get("/metrics")).text;
    t.match(metrics, /^ec2metaproxy_sts_healthy 0$/m);
    t.match(metrics, /^ec2metaproxy_healthy 0$/m);
    t.match(metrics, /^ec2metaproxy_containers_not_served 1$/m);

    await until(() => /not served: the container has no credentials/.test(proxy.log()), 10_000);
    t.match(proxy.log(), /unhealthy: roles cannot be assumed: .* cure="Turn it on: /);
    aws.imds.setFaults({});
    await until(async () => (await get("/healthz")).status === 200, 60_000);
    t.equal((await ask({ port: port(proxy.endpoint), from: "127.0.0.21" }, "GET", list)).status, 200);
    const healthy = await status();
    t.equal(healthy.code, 0, healthy.text);
    t.match(healthy.text, /served; credentials expire in \d+ min, refreshed \d+ s ago/);
    const served = await explain(victim.name);
    t.equal(served.code, 0);
    t.match(served.text, /^c-aa gets the role Web\.$/m);
    t.match(served.text, /requests +2, 1 of them refused/);
    await t.rejects(explain("172.31.9.9"), { exitCode: 69, message: /no running container has this/ });

    guard.host = {
      firewall: { state: "not-in-force", since: Date.now(), reason: "there are no rules of ec2metaproxy" },
      lockTrouble: "",
    };
    guard.guard.host();
    await until(async () => (await get("/healthz")).status === 503, 10_000);
    await until(() => /unhealthy: firewall rules NOT IN FORCE/.test(proxy.log()), 10_000);
    const open = await status();
    t.equal(open.code, 1);
    t.match(open.text, /firewall rules NOT IN FORCE, .*: there are no rules of ec2metaproxy/);
    t.match((await get("/metrics")).text, /^ec2metaproxy_firewall_in_force 0$/m);

    await proxy.writeConfigFile("{ broken");
    process.kill(proxy.pid(), "SIGHUP");
    await until(async () => /reload refused/.test((await status()).text), 10_000);
    t.match((await get("/metrics")).text, /^ec2metaproxy_config_valid 0$/m);
    await proxy.stop();
    await t.rejects(status(), { name: "OperatorError", exitCode: 69 });
    const stopped = await say((print) =>
      explainCommand(
        { configPath: proxy.configPath, container: "127.0.0.21", json: false, guard: guard.path },
        { ...environment, dockerHost: "unix:///nonexistent.sock" },
        print,
        silent,
      ),
    ).catch((error: unknown) => error);
    t.match(stopped, { name: "OperatorError" });
  },
);
