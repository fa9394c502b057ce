import type { TestHost } from "./host.ts";

/** What a package may count on where packages are RPMs, under the names of Amazon Linux 2023 and Fedora. */
const provided = [
  "/bin/sh",
  "/usr/bin/sh",
  "/usr/bin/systemctl",
  "coreutils",
  "glibc",
  "iptables",
  "iptables-nft",
  "libatomic",
  "libstdc++",
  "nftables",
  "shadow-utils",
  "systemd",
  "systemd-libs",
  "system-release = 1",
  "util-linux",
];

/**
 * Makes a Debian host one where dnf installs, upgrades and removes packages, with their scriptlets and the running systemd. Its RPM
 * database is empty, so a package without files says that all of `provided` is there, as it is.
 */
export async function becomeRpmHost(host: TestHost, alsoProvided: readonly string[] = []): Promise<void> {
  const spec = [
    "Name: testhost-base",
    "Version: 1",
    "Release: 1",
    "Summary: What the host has from another package system",
    "License: MIT",
    "BuildArch: noarch",
    ...[...provided, ...alsoProvided].map((capability) => `Provides: ${capability}`),
    "%description",
    "Nothing but names.",
    "%files",
    "",
  ];
  // Debian enables a unit when nothing says otherwise; where packages are RPMs, nothing is enabled unless a preset says so.
  await host.write("/usr/lib/systemd/system-preset/99-default-disable.preset", "disable *\n");
  await host.write("/root/testhost-base.spec", spec.join("\n"));
  await host.exec([
    "rpmbuild",
    "--quiet",
    "-bb",
    "--define=_topdir /root/rpmbuild",
    "/root/testhost-base.spec",
  ]);
  await host.exec(["rpm", "--install", "/root/rpmbuild/RPMS/noarch/testhost-base-1-1.noarch.rpm"]);
}

/**
 * Copies a repository folder of this machine (packages and repodata) into the host and tells dnf. `gpgKey` is a path inside the folder; with
 * it, signatures of packages and of the metadata must be good. Calling it again replaces the folder: the next version of a package.
 */
export async function addYumRepository(
  host: TestHost,
  directory: string,
  options: { readonly name?: string; readonly gpgKey?: string } = {},
): Promise<void> {
  const name = options.name ?? "testhost";
  const path = `/srv/yum/${name}`;
  await host.exec(["rm", "-rf", path]);
  await host.copyIn(directory, path);
  const signed = options.gpgKey === undefined ? 0 : 1;
  const lines = [
    `[${name}]`,
    `name=${name}`,
    `baseurl=file://${path}`,
    `gpgcheck=${signed}`,
    `repo_gpgcheck=${signed}`,
    ...(options.gpgKey === undefined ? [] : [`gpgkey=file://${path}/${options.gpgKey}`]),
    "",
  ];
  await host.write(`/etc/yum.repos.d/${name}.repo`, lines.join("\n"));
}

/** `dnf("install", "ec2metaproxy")`: asks nothing, and reads the repositories anew. */
export async function dnf(host: TestHost, ...args: readonly string[]): Promise<string> {
  const command = ["dnf", "--assumeyes", "--refresh", "--releasever=1", ...args];
  return (await host.exec(command, { timeoutMs: 180_000 })).stdout;
}
