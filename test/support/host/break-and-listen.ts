import type { Test } from "tap";
import { askForCredentials, installDeb, pointAtSts, writeConfig } from "./appliance.ts";
import { startAws } from "./aws.ts";
import { bootFor } from "./boot.ts";
import { type Scene, type SetUp, type Speaker, setUps, workingConfig } from "./broken-set-ups.ts";
import { builtPackages } from "./built-packages.ts";
import type { CommandResult } from "./command.ts";
import { containerEngine } from "./engine.ts";
import type { Suite } from "./root.ts";

const saysWithinMs = 40_000;

/** What one of those who speak for the product says now. */
async function said(
  { host }: Scene,
  speaker: Speaker,
  { about = "web1" }: SetUp,
  cursor: string,
): Promise<CommandResult> {
  const commands: Readonly<Record<Speaker, string>> = {
    status: "ec2metaproxy status",
    systemctl: "systemctl show --value --property=StatusText ec2metaproxy",
    check: "ec2metaproxy check",
    probe: "ec2metaproxy check --probe",
    explain: `ec2metaproxy explain ${about}`,
    metrics: "curl -s -m 5 http://127.0.0.1:18009/metrics",
    journal: `journalctl --no-pager --output=cat --after-cursor='${cursor}'`,
    package: "DEBIAN_FRONTEND=noninteractive dpkg --install /root/ec2metaproxy.deb",
  };
  return host.exec(`${commands[speaker]} 2>&1`, { check: false, timeoutMs: 90_000 });
}

async function cursorOf({ host }: Scene): Promise<string> {
  const { stdout } = await host.exec("journalctl --no-pager --lines=0 --show-cursor");
  return /-- cursor: (.*)/.exec(stdout)?.[1] ?? "";
}

async function carryOut(scene: Scene, what: SetUp["breaks"]): Promise<void> {
  if (typeof what === "string") await scene.host.exec(what, { check: false, timeoutMs: 120_000 });
  else await what(scene);
}

/** Whether a container gets its credentials. An engine that does not run cannot say where it is. */
async function served({ docker }: Scene): Promise<boolean> {
  const answer = await docker.inNetwork("web1", askForCredentials, { check: false }).catch(() => undefined);
  return answer?.code === 0;
}

/** Resolves when the product says that all is well, and a container is served. */
async function whenWell(scene: Scene): Promise<void> {
  let last = "";
  await scene.host
    .waitFor(
      async () => {
        const status = await scene.host.exec("ec2metaproxy status 2>&1", { check: false });
        last = status.stdout;
        return status.code === 0 && (await served(scene));
      },
      { timeoutMs: 60_000, what: "the host to be well again" },
    )
    .catch((error: unknown) => {
      throw new Error(last, { cause: error });
    });
}

async function judge(t: Test, scene: Scene, setUp: SetUp): Promise<void> {
  const cursor = await cursorOf(scene);
  await carryOut(scene, setUp.breaks);
  if (setUp.healthy === true) await whenWell(scene);
  const until = Date.now() + saysWithinMs;
  for (const [speaker, pattern] of Object.entries(setUp.says) as [Speaker, RegExp][]) {
    let result = await said(scene, speaker, setUp, cursor);
    // What needs a moment to be noticed is asked about again. A package is installed once.
    while (!pattern.test(result.stdout) && Date.now() < until && speaker !== "package")
      result = await said(scene, speaker, setUp, cursor);
    t.match(result.stdout, pattern, speaker);
  }
  const isServed = await served(scene);
  const [status, check] = await Promise.all([
    said(scene, "status", setUp, cursor),
    said(scene, setUp.says.probe === undefined ? "check" : "probe", setUp, cursor),
  ]);
  if (setUp.healthy === true) {
    t.ok(isServed, "a container is served");
    t.equal(status.code, 0, status.stdout);
    t.equal(check.code, 0, check.stdout);
    t.notMatch(check.stdout, /^(FAIL|warn)/m);
    t.match((await said(scene, "metrics", setUp, cursor)).stdout, /^ec2metaproxy_healthy 1$/m);
  } else if (!isServed) t.notSame([status.code, check.code], [0, 0], "not served, and somebody says so");
}

/** Breaks a host in each way of the table, one after another. SET_UP=regex selects some. */
export async function breakAndListen(t: Test, suite: Suite): Promise<void> {
  const host = await bootFor(t, { suite });
  const aws = await startAws(host);
  const docker = await containerEngine(host, "docker");
  await installDeb(host, builtPackages().deb);
  await pointAtSts(host);
  await writeConfig(host, workingConfig);
  await host.exec("systemctl enable --now ec2metaproxy");
  const scene = { host, aws, docker };
  for (const name of ["web1", "web2"])
    await docker.run({ name, labels: { "ec2metaproxy.RoleAlias": "web" } });
  await whenWell(scene);
  for (const setUp of setUps.filter(({ name }) => new RegExp(process.env.SET_UP ?? "").test(name))) {
    await t.test(setUp.name, async (t) => {
      try {
        await judge(t, scene, setUp);
      } finally {
        await carryOut(scene, setUp.mends);
      }
      await whenWell(scene);
    });
  }
}
