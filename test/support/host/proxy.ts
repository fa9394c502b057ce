import { stsUrl } from "./aws.ts";
import { node, repository, type TestHost } from "./host.ts";

export type ProxyOptions = {
  /** More environment; AWS_ENDPOINT_URL_STS and AWS_REGION are set. */
  readonly env?: Readonly<Record<string, string>>;
  /** More lines for the unit's [Service] section. */
  readonly service?: readonly string[];
  /** Do not wait until it listens: it is expected to fail. */
  readonly wait?: boolean;
};

/** ec2metaproxy, run from this repository's source by an ordinary user in group docker. */
export type SourceProxy = {
  readonly unit: string;
  readonly configPath: string;
  start(): Promise<void>;
  stop(): Promise<void>;
  restart(): Promise<void>;
  /** Writes the file; `restart` or `reload` makes it count. */
  writeConfig(config: unknown): Promise<void>;
  reload(): Promise<void>;
  isActive(): Promise<boolean>;
  journal(lines?: number): Promise<string>;
};

const unit = "ec2metaproxy-source.service";
const configPath = "/etc/ec2metaproxy-source/config.json";
const port = 18000;

/** `config` is written as JSON, a string as it is. Resolves when the proxy accepts connections on port 18000. */
export async function startProxyFromSource(
  host: TestHost,
  config: unknown,
  options: ProxyOptions = {},
): Promise<SourceProxy> {
  const writeConfig = (content: unknown): Promise<void> =>
    host.write(configPath, typeof content === "string" ? content : JSON.stringify(content, null, 2));
  const listens = (): Promise<unknown> =>
    host.waitFor(async () => (await host.exec(`ss -Hltn 'sport = :${port}'`)).stdout !== "", {
      timeoutMs: 20_000,
      what: `the proxy to listen on port ${port}`,
    });
  const control = async (action: "start" | "restart"): Promise<void> => {
    await host.exec(["systemctl", action, unit]);
    if (options.wait !== false) await listens();
  };
  const proxy: SourceProxy = {
    unit,
    configPath,
    writeConfig,
    start: () => control("start"),
    restart: () => control("restart"),
    stop: async () => void (await host.exec(["systemctl", "stop", unit])),
    reload: async () => void (await host.exec(["systemctl", "reload", unit])),
    isActive: async () => (await host.exec(["systemctl", "is-active", unit], { check: false })).code === 0,
    journal: (lines) => host.journal(unit, lines),
  };
  await writeConfig(config);
  await host.write(`/etc/systemd/system/${unit}`, unitFile(options));
  await host.exec(["systemctl", "daemon-reload"]);
  await proxy.start();
  return proxy;
}

function unitFile(options: ProxyOptions): string {
  const environment = {
    AWS_ENDPOINT_URL_STS: stsUrl,
    AWS_REGION: "eu-west-1",
    HOME: "/nonexistent",
    ...options.env,
  };
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
${Object.entries(environment)
  .map(([key, value]) => `Environment="${key}=${value}"`)
  .join("\n")}
${(options.service ?? []).join("\n")}

[Install]
WantedBy=multi-user.target
`;
}
