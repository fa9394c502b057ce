import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import {
  allOff,
  allRunning,
  askForCredentials,
  installDeb,
  pointAtSts,
  property,
  states,
  writeConfig,
} from "../support/host/appliance.ts";
import type { LoadReport } from "../support/host/appliance-load.ts";
import { startAws } from "../support/host/aws.ts";
import { bootFor } from "../support/host/boot.ts";
import { builtPackages } from "../support/host/built-packages.ts";
import { containerEngine } from "../support/host/engine.ts";
import { node, repository, type TestHost } from "../support/host/host.ts";
import { canBoot } from "../support/host/requirements.ts";
import { becomeRpmHost } from "../support/host/rpm.ts";

/** Upgrades from release 1.0.0, whose proxy is in group docker and has no guard. */
const proxy = "ec2metaproxy.service";
const config = {
  defaultAlias: "web",
  aliasToARN: { web: "arn:aws:iam::123456789012:role/containers/Web" },
};
const rate = 100;
const stopFile = "/run/upgrade-load-stop";
const oldUnits = [
  proxy,
  "ec2metaproxy.socket",
  "ec2metaproxy-firewall.service",
  "ec2metaproxy-firewall.timer",
];

type Packages = {
  readonly first: string;
  readonly current: string;
  readonly next: string;
  readonly install: (host: TestHost, path: string) => Promise<unknown>;
  /** A command. */
  readonly remove: string;
};

const deb = (): Packages => {
  const { firstDeb, deb, nextDeb } = builtPackages();
  return {
    first: firstDeb,
    current: deb,
    next: nextDeb,
    install: installDeb,
    remove: "dpkg --purge ec2metaproxy",
  };
};

/** Requirements of the RPM that Debian provides under other names. */
const capabilities = [
  "iproute",
  "libatomic.so.1()(64bit)",
  "libc.so.6(GLIBC_2.28)(64bit)",
  "libgcc_s.so.1()(64bit)",
  "libstdc++.so.6(GLIBCXX_3.4.21)(64bit)",
  "libsystemd.so.0(LIBSYSTEMD_214)(64bit)",
];

const rpm = (): Packages => {
  const { firstRpm, rpm, nextRpm } = builtPackages();
  const install = async (host: TestHost, path: string) => {
    await host.copyIn(path, "/root/ec2metaproxy.rpm");
    await host.exec("rpm --upgrade --hash /root/ec2metaproxy.rpm", { timeoutMs: 120_000 });
  };
  return { first: firstRpm, current: rpm, next: nextRpm, install, remove: "rpm --erase ec2metaproxy" };
};

async function groups(host: TestHost): Promise<readonly string[]> {
  return (await host.exec("id -nG ec2metaproxy")).stdout.trim().split(" ");
}

async function upgrades(t: Test, host: TestHost, packages: Packages): Promise<void> {
  const { first, current, next, install, remove } = packages;
  await startAws(host);
  const docker = await containerEngine(host, "docker");
  await install(host, first);
  await pointAtSts(host);
  await writeConfig(host, config);
  await docker.run({ name: "web1" });

  await t.test("units that are off stay off, and the user leaves group docker all the same", async (t) => {
    t.ok((await groups(host)).includes("docker"), "as release 1.0.0 left it");
    await install(host, current);
    t.same(await states(host), allOff);
    t.same(await groups(host), ["ec2metaproxy"]);
  });

  await t.test("under load no connection is refused, and everything runs afterwards", async (t) => {
    await host.exec(remove);
    await install(host, first);
    await pointAtSts(host);
    await writeConfig(host, config);
    // The operator's own doing, which is none of the package's business.
    await host.exec("gpasswd --add ec2metaproxy systemd-journal");
    await host.exec("systemctl enable --now ec2metaproxy");
    const oldPid = await property(host, proxy, "MainPID");
    const socketSince = await property(host, "ec2metaproxy.socket", "ActiveEnterTimestampMonotonic");
    await host.waitFor(
      async () => (await docker.inNetwork("web1", askForCredentials, { check: false })).code === 0,
      { timeoutMs: 20_000, what: "release 1.0.0 to serve" },
    );
    const load = host.spawn(
      [
        ...["nsenter", `--net=/proc/${await docker.pid("web1")}/ns/net`],
        ...[node, `${repository}/test/support/host/appliance-load.ts`, String(rate), stopFile],
      ],
      { timeoutMs: 300_000 },
    );
    await sleep(3_000);
    await install(host, current);
    await sleep(3_000);
    await host.write(stopFile, "");
    const report = JSON.parse((await load.finished).stdout) as LoadReport; // appliance-load.ts wrote it
    t.comment(
      `measured: ${report.total} requests over the upgrade: ${JSON.stringify(report.results)}, the slowest ${report.slowestMs} ms`,
    );
    t.same(
      report.failures.filter(({ result }) => result !== "503"),
      [],
      "every connection was answered, and the token stayed valid",
    );
    // A new process calls AssumeRole again, which can take longer than a client is kept waiting.
    t.ok((report.results["503"] ?? 0) < report.total / 10, "503 is rare");
    t.same(await states(host), allRunning);
    t.not(await property(host, proxy, "MainPID"), oldPid);
    t.equal(await property(host, "ec2metaproxy.socket", "ActiveEnterTimestampMonotonic"), socketSince);
  });

  await t.test(
    "the proxy is out of group docker, and in the groups that the operator put it in",
    async (t) => {
      t.same((await groups(host)).toSorted(), ["ec2metaproxy", "systemd-journal"]);
      const gid = (await host.exec("getent group docker")).stdout.split(":")[2];
      const status = await host.read(`/proc/${await property(host, proxy, "MainPID")}/status`);
      const [, held = ""] = /^Groups:\t(.*)$/m.exec(status) ?? [];
      t.notOk(
        held
          .trim()
          .split(" ")
          .includes(gid ?? ""),
        `the process is in ${held}`,
      );
    },
  );

  await t.test("a later upgrade leaves groups and disabled units alone", async (t) => {
    await host.exec("gpasswd --add ec2metaproxy docker; systemctl disable --now ec2metaproxy-guard.service");
    await install(host, next);
    t.ok((await groups(host)).includes("docker"), "whatever the operator did after 1.1.0 is the operator's");
    t.match((await states(host))["ec2metaproxy-guard.service"], /disabled$/);
    for (const unit of oldUnits) t.equal((await states(host))[unit], "active enabled", unit);
  });
}

for (const suite of ["bookworm", "trixie"] as const) {
  if (!canBoot(t)) break;
  t.test(`${suite}: the DEB upgrades release 1.0.0`, async (t) => {
    await upgrades(t, await bootFor(t, { suite }), deb());
  });
}

if (canBoot(t)) {
  t.test("bookworm: the RPM upgrades release 1.0.0", async (t) => {
    const host = await bootFor(t, { suite: "bookworm" });
    await becomeRpmHost(host, capabilities);
    await upgrades(t, host, rpm());
  });
}
