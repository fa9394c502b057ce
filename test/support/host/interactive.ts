import { spawn } from "node:child_process";
import { once } from "node:events";
import { startAws, stsUrl } from "./aws.ts";
import { containerEngine } from "./engine.ts";
import { node, repository, TestHost } from "./host.ts";
import { missingRequirements } from "./requirements.ts";

/** Boots a host, opens a shell on it, and removes it when the shell ends. Run by `scripts/testhost`. */
const log = (text: string): void => void process.stderr.write(`${text}\n`);

const suite = process.argv[2] ?? "bookworm";
if (suite !== "bookworm" && suite !== "trixie") {
  log(`testhost: expected bookworm or trixie, got "${suite}"`);
  process.exit(64);
}
const missing = missingRequirements();
if (missing.length > 0) {
  log(
    `testhost: this needs ${missing.join(", ")}. Run as root: apt-get install debootstrap systemd-container`,
  );
  process.exit(69);
}

await using host = await TestHost.boot({ suite, log });
await startAws(host);
await containerEngine(host, "docker");
log(`
${host.name} is up. This is a shell on it; the host is removed when the shell ends.

  another shell        nsenter --target ${host.pid} --all bash
  a container          docker run -d --name c1 --label ec2metaproxy.RoleAlias=db bb:latest sleep 3600
  a client in its net  nsenter -t $(docker inspect -f '{{.State.Pid}}' c1) -n aws sts get-caller-identity --endpoint-url ${stsUrl}
  this repository      ${repository} (read-only)
  Node                 ${node}
  the stand-in's log   journalctl -u testhost-aws; its controls: ip netns exec aws curl 10.200.0.2:81/calls
`);
const shell = spawn("nsenter", ["--target", String(host.pid), "--all", "--", "bash"], {
  stdio: "inherit",
  env: {
    AWS_DEFAULT_REGION: "eu-west-1",
    AWS_ENDPOINT_URL_STS: stsUrl,
    HOME: "/root",
    LANG: "C.UTF-8",
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    TERM: process.env.TERM ?? "dumb",
  },
});
const [code] = await once(shell, "close");
process.exitCode = typeof code === "number" ? code : 1;
