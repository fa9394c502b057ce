import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { processStartedAt } from "../../../src/containers/proc.ts";
import { adminSocketName, askAdmin } from "../../../src/observability/admin.ts";
import { account } from "../../support/aws/account.ts";
import { startAws } from "../../support/aws/aws.ts";
import { localProxy } from "../../support/local-proxy.ts";
import { startProxy } from "../../support/proxy.ts";
import { ask } from "../../support/raw-http.ts";
import { GivenGuard, until } from "../guard/fixture.ts";
import { engineContainer, listPath } from "../imds/fixture.ts";

/** The program itself, as a process of its own, with a guard. */
const role = `arn:aws:iam::${account.id}:role/containers/Web`;
const pidStartedAt = (await processStartedAt("/proc", process.pid)) ?? 0;
const victim = engineContainer("aa", "127.0.0.21", { pid: process.pid, pidStartedAt });
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
  await until(() => /reload refused/.test(proxy.log()));
  t.match(proxy.log(), /identityProof.*relies on the port lock.*--guard/);
  await t.rejects(proxy.restart(), "it does not start");
  t.match(proxy.log(), /config\.json has 1 problem/);
  t.match(proxy.log(), /Start it with --guard \/run\/ec2metaproxy-guard\/containers\.sock, or use/);
});
