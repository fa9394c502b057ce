import { readFileSync } from "node:fs";
import t from "tap";
import { installDeb, pointAtSts, property } from "../support/host/appliance.ts";
import { startAws } from "../support/host/aws.ts";
import { bootFor } from "../support/host/boot.ts";
import { builtPackages } from "../support/host/built-packages.ts";
import { containerEngine } from "../support/host/engine.ts";
import {
  attemptAll,
  listAttempts,
  propertiesIn,
  propertiesOf,
  setUpVictims,
} from "../support/host/escapes.ts";
import { canBoot } from "../support/host/requirements.ts";

/**
 * What an intruder in the proxy or in the guard can do to the host: each attempt of escapes.py, made with the
 * service's own identity and properties. SECURITY.md says the same in words.
 */
const proxy = "ec2metaproxy.service";
const guard = "ec2metaproxy-guard.service";

/** What succeeds for the guard, and why that cannot be helped. Everything else is refused. */
const guardCan = new Map(
  Object.entries({
    "it follows the engines": [
      "start a container that writes into the host's /etc/cron.d",
      "ask Docker at /run/docker.sock",
      "ask Docker at /var/run/docker.sock",
      "ask Docker through /proc/self/root",
      "ask Docker through a link in its own folder",
      "ask Podman",
      "speak to containerd",
      "connect to any socket of a process of root that is anywhere in the file system",
    ],
    "CAP_SYS_PTRACE opens other processes, and their root": [
      "ask Docker through the root or the working directory of any other process",
      "open a descriptor of Docker's through /proc/PID/fd",
      "read the environment of a process of root",
      "read the environment of the host's first process",
      "read the memory of a process of root",
      "write into the memory of a process of root",
      "list the host's files through /proc/1/root",
      "write into the host's /etc through /proc/1/root",
      "write a unit through the root of any other process",
      "see which network namespace a process of root is in",
    ],
    "it is root": [
      "send a signal to a process of root",
      "send a signal to the container engine",
      "protect a process of root from the OOM killer, or give it up",
      "run a setuid program of root",
    ],
    "CAP_NET_ADMIN is for this": [
      "make a network interface",
      "change the routing rules that keep containers out",
      "change the packet filter",
      "read the packet filter's rules",
    ],
    "they are its own": [
      "write beside the guard's socket",
      "have the guard's repair run by touching its file",
      "change what the guard remembers",
    ],
  }).flatMap(([why, names]) => names.map((name) => [name, why] as const)),
);

/**
 * On this booted host systemd 257 leaves /sys writable in spite of ProtectKernelTunables=. Setting an MTU is
 * CAP_NET_ADMIN's.
 */
const guardCanOn = { bookworm: [], trixie: ["write below /sys"] } as const;

/** Release 1.0.0's proxy: a user in group docker. */
const released = readFileSync(
  new URL("../fixtures/release-1.0.0/systemd/ec2metaproxy.service", import.meta.url),
  "utf8",
);

const aboutEngines = /Docker|Podman|containerd|container that writes|shim/;

for (const suite of ["bookworm", "trixie"] as const) {
  if (!canBoot(t)) break;
  t.test(
    `${suite}: nothing gets out of the proxy's sandbox, and what gets out of the guard's is known`,
    async (t) => {
      const host = await bootFor(t, { suite });
      await startAws(host);
      const docker = await containerEngine(host, "docker");
      await containerEngine(host, "podman");
      await installDeb(host, builtPackages().deb);
      await pointAtSts(host);
      await host.exec("systemctl enable --now ec2metaproxy");
      await docker.run({ name: "web1" });

      const [proxyPid, guardPid] = await Promise.all(
        [proxy, guard].map((unit) => property(host, unit, "MainPID")),
      );
      const victims = await setUpVictims(host);
      const against = (pid = "0") => ({ ...victims, OTHER_SERVICES: pid });
      const attempts = await listAttempts(host);
      const proxyProperties = await propertiesOf(host, proxy);
      const fromProxy = await attemptAll(host, proxyProperties, against(guardPid));
      const fromGuard = await attemptAll(host, await propertiesOf(host, guard), against(proxyPid));
      const controls = {
        root: await attemptAll(host, [], against(guardPid)),
        user: await attemptAll(host, ["--property=User=nobody"], against(guardPid)),
        released: await attemptAll(
          host,
          [...propertiesIn(released), "--property=SupplementaryGroups=docker"],
          against(guardPid),
        ),
      };

      await t.test("the properties are those of the running services", async (t) => {
        for (const [unit, pid] of [
          [proxy, proxyPid],
          [guard, guardPid],
        ] as const) {
          const status = async (of: string) =>
            (await host.read(`/proc/${of}/status`))
              .split("\n")
              .filter((line) => /^(Uid|Gid|Groups|Cap\w+|NoNewPrivs|Seccomp):/.test(line));
          const { stdout } = await host.exec([
            ...[
              "systemd-run",
              "--quiet",
              "--collect",
              "--wait",
              "--pipe",
              ...(await propertiesOf(host, unit)),
            ],
            ...["cat", "/proc/self/status"],
          ]);
          for (const line of await status(pid ?? "")) t.ok(stdout.includes(line), `${unit}: ${line}`);
        }
      });

      for (const { name, proof } of attempts) {
        await t.test(name, async (t) => {
          const byProxy = fromProxy.get(name);
          t.equal(byProxy?.outcome, "refused", `the proxy: ${byProxy?.detail}`);
          const byGuard = fromGuard.get(name);
          const onThisHost = guardCanOn[suite].some((one) => one === name)
            ? "of this host's /sys"
            : undefined;
          const why = guardCan.get(name) ?? onThisHost;
          t.equal(
            byGuard?.outcome,
            why === undefined ? "refused" : "succeeded",
            `the guard${why === undefined ? "" : `, because ${why}`}: ${byGuard?.detail}`,
          );
          if (proof !== "root" && proof !== "user" && proof !== "released")
            return t.comment(`no control, ${proof}`);
          const control = controls[proof].get(name);
          t.equal(control?.outcome, "succeeded", `${proof} can: ${control?.detail}`);
          if (proof === "released") t.equal(controls.root.get(name)?.outcome, "succeeded", "root can");
        });
      }

      await t.test("there are enough of them, and most are proven to be real", async (t) => {
        const proven = attempts.filter(({ proof }) => !proof.startsWith("none"));
        const count = (outcomes: ReadonlyMap<string, { readonly outcome: string }>) =>
          [...outcomes.values()].filter(({ outcome }) => outcome === "succeeded").length;
        t.comment(
          `measured: ${attempts.length} attempts, ${proven.length} proven; succeed: proxy ${count(fromProxy)}, guard ${count(fromGuard)}, release 1.0.0 ${count(controls.released)}, root ${count(controls.root)}`,
        );
        t.ok(proven.length >= 100, `${proven.length} of ${attempts.length}`);
        t.same(
          [...guardCan.keys()].filter((name) => !fromGuard.has(name)),
          [],
          "each of the guard's is one of them",
        );
      });

      await t.test("each of two layers alone keeps the proxy from every engine", async (t) => {
        const layers = {
          "its files, with group docker": [...proxyProperties, "--property=SupplementaryGroups=docker"],
          "its user and group, with all files": ["--property=User=ec2metaproxy"],
        };
        for (const [layer, properties] of Object.entries(layers)) {
          const outcomes = await attemptAll(host, properties, against(guardPid));
          const engines = [...outcomes.values()].filter(({ name }) => aboutEngines.test(name));
          t.ok(engines.length >= 10);
          t.same(
            engines.filter(({ outcome }) => outcome !== "refused"),
            [],
            layer,
          );
        }
      });

      await t.test("an engine's socket that is made anew stays hidden from the proxy", async (t) => {
        await host.exec("systemctl restart docker.socket docker.service");
        const { stdout } = await host.exec(["nsenter", "--target", proxyPid ?? "", "--mount", "ls", "/run"]);
        t.same(stdout.trim().split("\n"), ["ec2metaproxy", "ec2metaproxy-guard", "systemd"]);
      });

      await t.test("the sandboxes are rated as promised", async (t) => {
        const { stdout } = await host.exec(
          `systemd-analyze --no-pager security ${proxy} ${guard} ec2metaproxy-firewall.service ec2metaproxy-firewall-repair.service | grep Overall`,
        );
        for (const [unit, limit] of [
          [proxy, 1.3],
          [guard, 2.5],
          ["ec2metaproxy-firewall.service", 3],
          ["ec2metaproxy-firewall-repair.service", 3],
        ] as const) {
          const exposure = Number(new RegExp(`${unit}: ([\\d.]+)`).exec(stdout)?.[1] ?? Number.NaN);
          t.comment(`measured: exposure of ${unit}: ${exposure}`);
          t.ok(exposure <= limit, `${unit}: ${exposure}`);
        }
      });
    },
  );
}
