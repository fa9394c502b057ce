import type { ProxyRunner, StartedProxy } from "../proxy.ts";
import { stsUrl } from "./aws.ts";
import { node, repository, type TestHost } from "./host.ts";

/**
 * A proxy as a unit of a booted host, run from this repository's source by an ordinary user in group docker.
 */
export type HostProxyRunner = ProxyRunner & {
  readonly unit: string;
  readonly configPath: string;
  /** The last `lines` of the unit's journal. */
  journal(lines?: number): Promise<string>;
};
export type HostProxy = StartedProxy<HostProxyRunner>;

const unit = "ec2metaproxy-source.service";
const configPath = "/etc/ec2metaproxy-source/config.json";
/** The default of `listen`. */
const port = 18000;

/** @param service more lines for the unit's [Service] section */
export function hostProxy(host: TestHost, service: readonly string[] = []): HostProxyRunner {
  const stop = async () => void (await host.exec(["systemctl", "stop", unit]));
  return {
    unit,
    configPath,
    defaults: {},
    writeConfigFile: (text) => host.write(configPath, text),
    start: async () => {
      await host.write(`/etc/systemd/system/${unit}`, unitFile(service));
      await host.exec(["systemctl", "daemon-reload"]);
      await host.exec(["systemctl", "start", unit]);
      await host.waitFor(async () => (await host.exec(`ss -Hltn 'sport = :${port}'`)).stdout !== "", {
        timeoutMs: 20_000,
        what: `the proxy to listen on port ${port}`,
      });
    },
    stop,
    journal: (lines) => host.journal(unit, lines),
    [Symbol.asyncDispose]: stop,
  };
}

function unitFile(service: readonly string[]): string {
  return `[Unit]
Description=ec2metaproxy from source
After=docker.service testhost-aws.service
StartLimitIntervalSec=0

[Service]
ExecStart=${node} ${repository}/src/main.ts serve -c ${configPath}
ExecReload=/bin/kill -HUP $MAINPID
User=testproxy
SupplementaryGroups=docker
RuntimeDirectory=ec2metaproxy-source
RuntimeDirectoryPreserve=yes
Environment="AWS_ENDPOINT_URL_STS=${stsUrl}"
Environment="AWS_REGION=eu-west-1"
Environment="HOME=/nonexistent"
${service.join("\n")}

[Install]
WantedBy=multi-user.target
`;
}
