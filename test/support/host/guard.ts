import { node, repository, type TestHost } from "./host.ts";

const unit = "ec2metaproxy-guard.service";

/** Where the guard publishes the containers, and who may read it. */
export const guardSocket = "/run/ec2metaproxy-guard/containers.sock";
export const guardGroup = "ec2metaproxy";

/** Installs the guard's unit as the packages do. The program itself runs from this repository's source. */
export async function installGuard(host: TestHost): Promise<void> {
  await host.write(
    "/usr/bin/ec2metaproxy",
    `#!/bin/sh\nexec ${node} ${repository}/src/main.ts "$@"\n`,
    "0755",
  );
  await host.exec(`set -e
cp ${repository}/systemd/${unit} /usr/lib/systemd/system/
systemd-sysusers ${repository}/systemd/ec2metaproxy.sysusers.conf
systemctl daemon-reload`);
}

/** @param locked how many containers must be locked, and all that run */
export async function startGuard(host: TestHost, { locked }: { readonly locked: number }): Promise<void> {
  await host.exec(["systemctl", "start", unit]);
  const status = async () => (await host.exec(["systemctl", "show", "--property=StatusText", unit])).stdout;
  await host.waitFor(async () => (await status()).includes(`=${locked} containers, ${locked} locked`), {
    timeoutMs: 30_000,
    what: `the guard to lock ${locked} containers`,
  });
}

/** Also takes back the lock and the bridges' option, which a guard leaves in force. */
export async function stopGuard(host: TestHost): Promise<void> {
  await host.exec(
    `systemctl stop ${unit}; nft delete table bridge ec2metaproxy_lock
for bridge in /sys/class/net/*/bridge/no_linklocal_learn; do echo 0 > "$bridge"; done`,
    { check: false },
  );
}
