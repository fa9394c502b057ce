import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import t, { type Test } from "tap";
import {
  allOff,
  allRunning,
  configPath,
  installDeb,
  property,
  states,
  units,
  writeConfig,
} from "../support/host/appliance.ts";
import { startAws } from "../support/host/aws.ts";
import { bootFor } from "../support/host/boot.ts";
import { builtPackages } from "../support/host/built-packages.ts";
import type { TestHost } from "../support/host/host.ts";
import { canBoot } from "../support/host/requirements.ts";
import { addYumRepository, becomeRpmHost, dnf } from "../support/host/rpm.ts";

/** The packages on a booted host: files, installation, upgrade, removal. */
const root = dirname(dirname(import.meta.dirname));
const golden = join(root, "test/golden/package");
const suites = ["bookworm", "trixie"] as const;
const edited = { defaultAlias: "", aliasToARN: { web: "arn:aws:iam::123456789012:role/containers/Web" } };

/** Requirements of the RPM that Debian provides under other names. */
const capabilities = [
  "iproute",
  "libatomic.so.1()(64bit)",
  "libc.so.6(GLIBC_2.28)(64bit)",
  "libgcc_s.so.1()(64bit)",
  "libstdc++.so.6(GLIBCXX_3.4.21)(64bit)",
  "libsystemd.so.0(LIBSYSTEMD_214)(64bit)",
];

/** The files that the command `list` prints, as `-rwxr-xr-x root:root /path`, sorted by path. */
async function filesOf(host: TestHost, list: string): Promise<string> {
  const { stdout } = await host.exec(`${list} | sort | xargs -d '\\n' stat -c '%A %U:%G %n'`);
  return stdout;
}

/** A signing key without a passphrase, in a keyring of its own. */
function signingKey(t: Test): { readonly home: string; readonly fingerprint: string } {
  const home = mkdtempSync(join(tmpdir(), "gpg-"));
  const gpg = (...args: readonly string[]) =>
    execFileSync("gpg", ["--batch", "--homedir", home, ...args], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
  t.teardown(() => {
    spawnSync("gpgconf", ["--homedir", home, "--kill", "all"]);
    rmSync(home, { recursive: true, force: true });
  });
  gpg("--passphrase", "", "--quick-gen-key", "Test <test@example.com>", "rsa2048", "sign", "never");
  const [, fingerprint = ""] = /^fpr:+([0-9A-F]+):/m.exec(gpg("--with-colons", "--list-secret-keys")) ?? [];
  return { home, fingerprint };
}

/** The result of `make repo` for these packages. */
function repositories(t: Test, packages: readonly string[], key: ReturnType<typeof signingKey>): string {
  const folder = mkdtempSync(join(tmpdir(), "repo-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, "packages"));
  for (const path of packages) copyFileSync(path, join(folder, "packages", path.split("/").at(-1) ?? ""));
  execFileSync(join(root, "scripts/repo"), {
    env: {
      ...process.env,
      GNUPGHOME: key.home,
      KEY: key.fingerprint,
      PACKAGES: join(folder, "packages"),
      OUT: join(folder, "out"),
    },
    stdio: ["ignore", "ignore", "inherit"],
  });
  return join(folder, "out");
}

/** Our table and our routing rules, as nft and ip print them; empty if there are none. */
const rules = async (host: TestHost) =>
  (await host.exec("nft list tables | grep ec2metaproxy; ip rule | grep 169.254.169.254; true")).stdout;

/** Checks a removal by any package manager. */
async function leftNothing(t: Test, host: TestHost, output: string): Promise<void> {
  t.match(output, /containers now reach .* the instance's own role/);
  t.equal(await rules(host), "", "the rules are gone");
  for (const unit of units) t.equal(await property(host, unit, "ActiveState"), "inactive", unit);
  const links = await host.exec("find /etc/systemd/system -name 'ec2metaproxy*'");
  t.equal(links.stdout, "", "no unit is enabled");
  // By their executable: a process may have any name.
  const left = await host.exec("ls -l /proc/[0-9]*/exe 2>/dev/null | grep /usr/bin/ec2metaproxy; true");
  t.equal(left.stdout, "", "no process is left");
  const run = await host.exec("find /run -name '*ec2metaproxy*'");
  t.equal(run.stdout, "", "nothing is left in /run");
  const failed = await host.exec("systemctl list-units --all --no-legend 'ec2metaproxy*'");
  t.equal(failed.stdout, "", "systemd remembers no unit");
  t.match(output, /kept: .*the user ec2metaproxy/, "it says what it keeps");
}

/** How many processes of ours run. By the name that the kernel has, as an operator looks for them. */
async function processes(host: TestHost): Promise<number> {
  // pgrep -c prints 0 and exits with 1 if there is none.
  return Number((await host.exec("pgrep -c -x ec2metaproxy || true")).stdout);
}

/** The user of the service, out of group docker where the operator had put it. */
async function userIsHarmless(t: Test, host: TestHost): Promise<void> {
  const { stdout } = await host.exec("id -nG ec2metaproxy");
  t.notMatch(stdout, /\bdocker\b/, "the user that stays is not in group docker");
}

/** A file that the service's next start would not accept. */
async function breakConfig(host: TestHost): Promise<void> {
  await host.write(configPath, '{ "defaultAlias": "nobody", "listenn": ":18000" }\n');
}

if (canBoot(t)) {
  t.test("lintian and rpmlint find nothing beyond the documented overrides", async (t) => {
    const { deb, rpm } = builtPackages();
    const lintian = spawnSync("lintian", ["--allow-root", "--fail-on=error,warning", deb], {
      encoding: "utf8",
    });
    t.equal(lintian.stdout, "");
    t.equal(lintian.status, 0);
    const rpmlint = spawnSync("rpmlint", ["-c", join(root, "packaging/rpm/rpmlint.toml"), rpm], {
      encoding: "utf8",
    });
    t.match(rpmlint.stdout, /0 errors, 0 warnings/);
  });

  t.test(
    "the packages depend on the libraries that the executable and the addon link to, in sufficient versions",
    async (t) => {
      const folder = t.testdir({});
      execFileSync("dpkg-deb", ["--extract", builtPackages().deb, folder]);
      const files = ["usr/bin/ec2metaproxy", "usr/lib/ec2metaproxy/notify.node"].map((file) =>
        join(folder, file),
      );
      const readelf = (option: string) =>
        execFileSync("readelf", ["--wide", option, ...files], {
          encoding: "utf8",
          stdio: ["ignore", "pipe", "ignore"],
        });
      const libraries = [...readelf("--dynamic").matchAll(/Shared library: \[(.+?)\]/g)].map(
        ([, name]) => name ?? "",
      );
      const known =
        /^(libatomic\.so\.1|libstdc\+\+\.so\.6|libgcc_s\.so\.1|libsystemd\.so\.0|lib(c|m|dl|pthread)\.so\.\d|ld-linux.*)$/;
      t.same(
        libraries.filter((name) => !known.test(name)),
        [],
      );
      const versions = readelf("--version-info");
      const newest = (symbol: string) =>
        [...versions.matchAll(new RegExp(`\\b${symbol}_([\\d.]+)`, "g"))]
          .map(([, version]) => version ?? "")
          .sort(new Intl.Collator("en", { numeric: true }).compare)
          .at(-1);
      const rpm = readFileSync(join(root, "nfpm.yaml"), "utf8");
      for (const symbol of ["GLIBC", "GLIBCXX", "LIBSYSTEMD"])
        t.match(rpm, `(${symbol}_${newest(symbol)})`, symbol);
    },
  );

  for (const suite of suites) {
    t.test(`on ${suite} the DEB can be installed, upgraded, removed and installed again`, async (t) => {
      const host = await bootFor(t, { suite });
      const { deb, nextDeb } = builtPackages();
      await startAws(host);

      await t.test(
        "apt-get install ./x.deb installs the files of the golden list, and leaves all units off",
        async (t) => {
          await installDeb(host, deb);
          const files = await filesOf(host, "dpkg -L ec2metaproxy | grep ec2metaproxy");
          t.equal(files, readFileSync(join(golden, "deb-files.txt"), "utf8"));
          t.same(await states(host), allOff);
          const user = await host.exec("id ec2metaproxy");
          t.match(user.stdout, /groups=\d+\(ec2metaproxy\)$/m, "in no group but its own");
          const version = await host.exec("ec2metaproxy --version");
          t.match(version.stdout, /^ec2metaproxy \S+ \(commit \S+, node 26\./);
        },
      );

      await t.test(
        "an upgrade keeps the edited file, restarts what runs, and leaves it enabled",
        async (t) => {
          await writeConfig(host, edited);
          await host.exec("systemctl enable --now ec2metaproxy");
          const pid = await property(host, "ec2metaproxy.service", "MainPID");
          const socketSince = await property(host, "ec2metaproxy.socket", "ActiveEnterTimestampMonotonic");
          await installDeb(host, nextDeb);
          t.same(await states(host), allRunning);
          t.not(await property(host, "ec2metaproxy.service", "MainPID"), pid);
          t.equal(
            await property(host, "ec2metaproxy.socket", "ActiveEnterTimestampMonotonic"),
            socketSince,
            "the socket was open throughout",
          );
          t.same(JSON.parse(await host.read(configPath)), edited);
        },
      );

      await t.test("an upgrade with a broken config.json leaves the serving process alone", async (t) => {
        await breakConfig(host);
        const pids = async () => [
          await property(host, "ec2metaproxy.service", "MainPID"),
          await property(host, "ec2metaproxy-guard.service", "MainPID"),
        ];
        const before = await pids();
        await host.copyIn(deb, "/root/ec2metaproxy.deb");
        const { stdout, stderr } = await host.exec(
          "apt-get install -y --allow-downgrades --reinstall /root/ec2metaproxy.deb",
          { env: { DEBIAN_FRONTEND: "noninteractive" }, timeoutMs: 120_000 },
        );
        t.match(stdout + stderr, /listenn/, "the problem is shown");
        t.match(stdout + stderr, /the running services were left alone/);
        t.same(await pids(), before);
        t.same(await states(host), allRunning);
        await writeConfig(host, edited);
      });

      await t.test("an upgrade leaves units off that the operator disabled", async (t) => {
        await host.exec(["systemctl", "disable", "--now", ...units]);
        await host.copyIn(deb, "/root/ec2metaproxy.deb");
        await host.exec("apt-get install -y --allow-downgrades --reinstall /root/ec2metaproxy.deb", {
          env: { DEBIAN_FRONTEND: "noninteractive" },
        });
        t.same(await states(host), allOff);
      });

      await t.test(
        "removal stops all units, removes the rules with a warning, and keeps the configuration",
        async (t) => {
          await host.exec("systemctl enable --now ec2metaproxy");
          await host.exec("groupadd --force docker && gpasswd --add ec2metaproxy docker");
          await host.write("/etc/ec2metaproxy/environment", "AWS_REGION=eu-west-1\n", "0600");
          t.match(await rules(host), /table inet ec2metaproxy/);
          // A start also applies the rules, by a process that ends.
          await host.waitFor(async () => (await processes(host)) === 2, {
            what: "the proxy and the guard, and nobody else, to be found by their name",
          });
          const { stdout, stderr } = await host.exec("apt-get remove -y ec2metaproxy");
          await leftNothing(t, host, stdout + stderr);
          await userIsHarmless(t, host);
          t.match(stdout + stderr, /environment may hold keys/);
          t.same(JSON.parse(await host.read(configPath)), edited);
        },
      );

      await t.test(
        "installed again it runs with the kept configuration; purging removes that too",
        async (t) => {
          await installDeb(host, deb);
          t.same(await states(host), allOff);
          t.same(JSON.parse(await host.read(configPath)), edited);
          await host.exec("systemctl enable --now ec2metaproxy");
          t.same(await states(host), allRunning);
          const { stdout, stderr } = await host.exec("apt-get purge -y ec2metaproxy");
          await leftNothing(t, host, stdout + stderr);
          t.not((await host.exec("id ec2metaproxy", { check: false })).code, 0, "the user is gone");
          const left = await host.exec(
            "find /etc /usr /run /var/lib -name '*ec2metaproxy*' -not -path '/var/lib/dpkg/*'",
          );
          t.equal(left.stdout, "");
        },
      );
    });

    t.test(
      `on ${suite} the RPM from a signed repository can be installed, upgraded, removed and installed again`,
      async (t) => {
        const host = await bootFor(t, { suite });
        const { rpm, nextRpm, deb } = builtPackages();
        await startAws(host);
        await becomeRpmHost(host, capabilities);
        const key = signingKey(t);
        const use = async (...rpms: readonly string[]) => {
          const yum = join(repositories(t, [deb, ...rpms], key), "yum");
          await addYumRepository(host, join(yum, "x86_64"), { gpgKey: "ec2metaproxy.asc" });
        };

        await t.test(
          "dnf install installs the files of the golden list, and leaves all units off",
          async (t) => {
            await use(rpm);
            await dnf(host, "install", "ec2metaproxy");
            t.equal(
              await filesOf(host, "rpm --query --list ec2metaproxy"),
              readFileSync(join(golden, "rpm-files.txt"), "utf8"),
            );
            t.same(await states(host), allOff);
          },
        );

        await t.test(
          "an upgrade keeps the edited file, restarts what runs, and leaves it enabled",
          async (t) => {
            await writeConfig(host, edited);
            await host.exec("systemctl enable --now ec2metaproxy");
            const pid = await property(host, "ec2metaproxy.service", "MainPID");
            const socketSince = await property(host, "ec2metaproxy.socket", "ActiveEnterTimestampMonotonic");
            await use(rpm, nextRpm);
            await dnf(host, "upgrade", "ec2metaproxy");
            t.match((await host.exec("rpm --query ec2metaproxy")).stdout, /9\.9\.9/);
            t.same(await states(host), allRunning);
            t.not(await property(host, "ec2metaproxy.service", "MainPID"), pid);
            t.equal(
              await property(host, "ec2metaproxy.socket", "ActiveEnterTimestampMonotonic"),
              socketSince,
              "the socket was open throughout",
            );
            t.same(JSON.parse(await host.read(configPath)), edited);
            t.match(await rules(host), /table inet ec2metaproxy/);
          },
        );

        await t.test("an upgrade with a broken config.json leaves the serving process alone", async (t) => {
          await breakConfig(host);
          const before = await property(host, "ec2metaproxy.service", "MainPID");
          const said = await dnf(host, "reinstall", "ec2metaproxy");
          t.match(said, /the running services were left alone/);
          t.equal(await property(host, "ec2metaproxy.service", "MainPID"), before);
          t.same(await states(host), allRunning);
          await writeConfig(host, edited);
        });

        await t.test("an upgrade leaves units off that the operator disabled", async (t) => {
          await host.exec(["systemctl", "disable", "--now", ...units]);
          await dnf(host, "reinstall", "ec2metaproxy");
          t.same(await states(host), allOff);
        });

        await t.test(
          "removal stops all units, removes the rules with a warning, and keeps the edited file",
          async (t) => {
            await host.exec("systemctl enable --now ec2metaproxy");
            await host.exec("groupadd --force docker && gpasswd --add ec2metaproxy docker");
            // A start also applies the rules, by a process that ends.
            await host.waitFor(async () => (await processes(host)) === 2, {
              what: "the proxy and the guard, and nobody else, to be found by their name",
            });
            const said = await dnf(host, "remove", "ec2metaproxy");
            await leftNothing(t, host, said);
            await userIsHarmless(t, host);
            const licences = await host.exec("find /usr/share/licenses -name 'ec2metaproxy*'");
            t.equal(licences.stdout, "", "the folder of the licence is gone");
            t.same(JSON.parse(await host.read(`${configPath}.rpmsave`)), edited);
          },
        );

        await t.test("it can be installed again", async (t) => {
          await dnf(host, "install", "ec2metaproxy");
          await host.exec("systemctl enable --now ec2metaproxy");
          t.same(await states(host), allRunning);
        });
      },
    );
  }

  t.test("apt installs from the signed repository, and refuses one that was changed", async (t) => {
    const host = await bootFor(t, { suite: "bookworm" });
    const { deb, rpm } = builtPackages();
    const apt = join(repositories(t, [deb, rpm], signingKey(t)), "apt");
    await host.copyIn(apt, "/srv/apt");
    const source = "deb [signed-by=/srv/apt/ec2metaproxy.asc] file:///srv/apt stable main\n";
    await host.write("/etc/apt/sources.list.d/ec2metaproxy.list", source);
    await host.exec("apt-get update");
    await host.exec("apt-get install -y ec2metaproxy", { timeoutMs: 120_000 });
    t.same(await states(host), allOff);

    await host.exec(
      "sed -i 's/^Version: .*/Version: 66/' /srv/apt/dists/stable/main/binary-*/Packages && rm /srv/apt/dists/stable/main/binary-*/Packages.gz",
    );
    const changed = await host.exec("rm -rf /var/lib/apt/lists/*; apt-get update", { check: false });
    t.not(changed.code, 0, "the list's checksum is not the signed one");
  });
}
