import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import {
  allRunning,
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
import { node, repository } from "../support/host/host.ts";
import { canBoot } from "../support/host/requirements.ts";

/** systemd holds the socket: no new connection is refused or reset, whatever happens to the process. */
const stopFile = "/run/appliance-load-stop";
const rate = 200;

for (const suite of ["bookworm", "trixie"] as const) {
  if (!canBoot(t)) break;
  t.test(
    `on ${suite} restarts, a crash and an upgrade under load refuse no connection and keep tokens valid`,
    async (t) => {
      const host = await bootFor(t, { suite });
      const { deb, nextDeb } = builtPackages();
      await startAws(host);
      const docker = await containerEngine(host, "docker");
      await installDeb(host, deb);
      await pointAtSts(host);
      await writeConfig(host, {
        defaultAlias: "web",
        aliasToARN: { web: "arn:aws:iam::123456789012:role/containers/Web" },
      });
      await host.exec("systemctl enable --now ec2metaproxy");
      await docker.run({ name: "web1" });

      const pid = await docker.pid("web1");
      const started = Date.now();
      const load = host.spawn(
        [
          "nsenter",
          `--net=/proc/${pid}/ns/net`,
          node,
          `${repository}/test/support/host/appliance-load.ts`,
          String(rate),
          stopFile,
        ],
        { timeoutMs: 300_000 },
      );
      const restart = () => host.exec("systemctl restart ec2metaproxy");
      const mainPid = () => property(host, "ec2metaproxy.service", "MainPID");
      await sleep(3_000);
      await restart();
      await sleep(3_000);
      await restart();
      await sleep(3_000);
      const before = await mainPid();
      const killedAt = Date.now();
      await host.exec(["kill", "-KILL", before]);
      const killDoneAt = Date.now();
      await sleep(3_000);
      await installDeb(host, nextDeb);
      await sleep(3_000);
      await restart();
      await sleep(3_000);
      await host.write(stopFile, "");
      const { stdout } = await load.finished;
      const report = JSON.parse(stdout) as LoadReport; // appliance-load.ts wrote it
      const seconds = Math.round((Date.now() - started) / 1000);
      t.comment(
        `measured: ${report.total} requests on new connections in ${seconds} s over 3 restarts, 1 kill -9, 1 upgrade: ${JSON.stringify(report.results)}, the slowest ${report.slowestMs} ms`,
      );

      t.ok(report.total > 20 * rate * 0.8, "the load reached its rate", { total: report.total });
      // Requests that the killed process had accepted and not answered are lost, whoever holds the socket.
      const lost = report.failures.filter(({ at }) => at >= killedAt - 500 && at <= killDoneAt);
      t.ok(lost.length <= 5, "only requests in progress at the kill are lost", { lost });
      // A new process calls AssumeRole again. On a busy machine that can take longer than the second for
      // which a client waits. 503 is an answer: no connection was refused or reset, and the token was
      // accepted. An SDK keeps its credentials and retries.
      const early = report.failures.filter(({ result }) => result === "503").length;
      t.comment(`measured: ${early} of them got 503 during the call to STS`);
      t.ok(early < report.total / 5, "503 is rare");
      t.same(
        report.failures.filter((failure) => !lost.includes(failure) && failure.result !== "503"),
        [],
        "every other connection was answered, and the first token stayed valid",
      );
      t.not(await mainPid(), before);
      t.same(await states(host), allRunning);
      const version = await host.exec("dpkg -s ec2metaproxy | grep ^Version");
      t.match(version.stdout, /^Version: 9\.9\.9/, "the next version is installed");
    },
  );
}
