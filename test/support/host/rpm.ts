import type { TestHost } from "./host.ts";

/**
 * Capabilities that a package may require on an RPM system, by their names on Amazon Linux 2023 and Fedora.
 */
const provided = [
  "/bin/sh",
  "/usr/bin/gpasswd",
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
];

/**
 * Prepares a Debian host for dnf to install, upgrade and remove packages, with their scriptlets and the
 * running systemd. The RPM database is empty, so a package without files provides the capabilities in
 * `provided`, which the host does have.
 */
export async function becomeRpmHost(host: TestHost, alsoProvided: readonly string[] = []): Promise<void> {
  const spec = [
    "Name: testhost-base",
    "Version: 1",
    "Release: 1",
    "Summary: Capabilities that the host has from Debian packages",
    "License: MIT",
    "BuildArch: noarch",
    ...[...provided, ...alsoProvided].map((capability) => `Provides: ${capability}`),
    "%description",
    "Contains no files.",
    "%files",
    "",
  ];
  // Debian enables units by default. RPM systems enable only what a preset names.
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
 * Copies a repository folder (packages and repodata) to the host and adds it to dnf. `gpgKey` is a path
 * inside the folder; with it, packages and metadata must have valid signatures. A second call replaces the
 * folder, to publish the next version of a package.
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

/** `dnf("install", "ec2metaproxy")`: answers yes to everything and refreshes the repositories. */
export async function dnf(host: TestHost, ...args: readonly string[]): Promise<string> {
  const command = ["dnf", "--assumeyes", "--refresh", "--releasever=1", ...args];
  return (await host.exec(command, { timeoutMs: 180_000 })).stdout;
}
