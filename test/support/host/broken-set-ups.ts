import { askForCredentials, configPath, writeConfig } from "./appliance.ts";
import type { AwsSide } from "./aws.ts";
import { containerEngine, type Engine } from "./engine.ts";
import type { TestHost } from "./host.ts";

/** A host on which two containers are served, and something is about to break. */
export type Scene = {
  readonly host: TestHost;
  readonly aws: AwsSide;
  readonly docker: Engine;
};

/** Who speaks for the product. */
export type Speaker =
  | "status"
  | "systemctl"
  | "check"
  | "probe"
  | "explain"
  | "metrics"
  | "journal"
  | "package";

export type SetUp = {
  /** As an operator would describe it. */
  readonly name: string;
  /** Shell commands on the host, or more. */
  readonly breaks: string | ((scene: Scene) => Promise<unknown>);
  /** What undoes it. */
  readonly mends: string | ((scene: Scene) => Promise<unknown>);
  /** What each must say. Every speaker that is named must say so within half a minute. */
  readonly says: Partial<Readonly<Record<Speaker, RegExp>>>;
  /** The container that `explain` is asked about. */
  readonly about?: string;
  /** Nothing is wrong, and nobody may complain. */
  readonly healthy?: true;
};

const role = (name: string) => `arn:aws:iam::123456789012:role/containers/${name}`;

export const workingConfig = {
  aliasToARN: { web: role("Web"), data: role("Reports") },
  metricsListen: "127.0.0.1:18009",
  dockerHosts: ["unix:///run/docker.sock"],
};
export const environmentPath = "/etc/ec2metaproxy/environment";

const restart = "systemctl reset-failed; systemctl restart ec2metaproxy";
/** Starts again after the configuration or the environment was wrong. */
const edited =
  (config: object) =>
  async ({ host }: Scene) => {
    await writeConfig(host, { ...workingConfig, ...config });
    await host.exec("systemctl restart ec2metaproxy", { check: false, timeoutMs: 60_000 });
  };
const asBefore = async ({ host }: Scene) => {
  await writeConfig(host, workingConfig);
  await host.exec(restart, { timeoutMs: 60_000 });
};
const variable = (line: string) => ({
  breaks: `echo '${line}' >>${environmentPath}; systemctl restart ec2metaproxy || true`,
  mends: `sed -i '$d' ${environmentPath}; ${restart}`,
});
const faulty =
  (faults: Parameters<AwsSide["setFaults"]>[0]) =>
  async ({ host, aws }: Scene) => {
    await aws.setFaults(faults);
    // Without credentials in memory, and with one role.
    await host.exec(restart, { timeoutMs: 60_000 });
  };
const faultless = async ({ host, aws }: Scene) => {
  await aws.reset();
  await host.exec(restart, { timeoutMs: 60_000 });
};
const container = (name: string, options: Parameters<Engine["run"]>[0]) => ({
  about: name,
  breaks: async ({ docker }: Scene) => void (await docker.run({ ...options, name })),
  mends: async ({ docker }: Scene) => void (await docker.remove(name)),
});
const inputRule = (rule: string) => ({
  breaks: `iptables -A INPUT ${rule}`,
  mends: `iptables -D INPUT ${rule}`,
});

export const setUps: readonly SetUp[] = [
  // AWS
  {
    name: "IMDS answers 403",
    breaks: faulty({ imds: { status: 403 } }),
    mends: faultless,
    says: {
      status: /NOT SERVED[\s\S]*metadata service answers 403/,
      systemctl: /NOT SERVED/,
      check: /FAIL +metadata/,
      explain: /DOES NOT GET the role/,
      metrics: /^ec2metaproxy_healthy 0$[\s\S]*^ec2metaproxy_sts_healthy 0$/m,
      journal: /metadata-disabled/,
    },
  },
  {
    name: "the instance has no instance profile",
    breaks: faulty({ imds: { noRole: true } }),
    mends: faultless,
    says: {
      status: /roles cannot be assumed/,
      check: /FAIL +sts[^\n]*\n[^\n]*associate-iam-instance-profile/i,
      metrics: /^ec2metaproxy_sts_healthy 0$/m,
      journal: /no-instance-profile/,
    },
  },
  {
    name: "IMDS hangs",
    breaks: faulty({ imds: { hang: true } }),
    mends: faultless,
    says: { status: /NOT SERVED/, metrics: /^ec2metaproxy_healthy 0$/m, journal: /metadata-timeout/ },
  },
  {
    name: "STS drops every connection",
    breaks: faulty({ sts: { dropConnection: true } }),
    mends: faultless,
    says: {
      status: /roles cannot be assumed/,
      systemctl: /NOT SERVED/,
      explain: /DOES NOT GET the role/,
      metrics: /^ec2metaproxy_sts_healthy 0$/m,
      journal: /connection-reset/,
    },
  },
  {
    name: "STS throttles",
    breaks: faulty({ sts: { throttle: true } }),
    mends: faultless,
    says: { status: /throttl/, metrics: /^ec2metaproxy_sts_healthy 0$/m, journal: /throttl/ },
  },
  {
    name: "STS is disabled in the region",
    breaks: faulty({ sts: { regionDisabled: true } }),
    mends: faultless,
    says: { status: /NOT SERVED/, metrics: /^ec2metaproxy_healthy 0$/m, journal: /region-disabled/ },
  },
  {
    name: "IAM refuses a container's role",
    about: "refused1",
    breaks: async (scene) => {
      await edited({ aliasToARN: { ...workingConfig.aliasToARN, refused: role("fault-accessDenied") } })(
        scene,
      );
      await scene.docker.run({ name: "refused1", labels: { "ec2metaproxy.RoleAlias": "refused" } });
    },
    mends: async (scene) => {
      await scene.docker.remove("refused1");
      await asBefore(scene);
    },
    says: {
      status:
        /refused1: has no credentials for \S+fault-accessDenied: IAM does not let the host assume the role/,
      check: /FAIL +role/,
      explain: /DOES NOT GET the role/,
      metrics: /^ec2metaproxy_containers_not_served 1$/m,
      journal: /stsCode=AccessDenied/,
    },
  },
  // Units
  {
    name: "service and socket are stopped",
    breaks: "systemctl stop ec2metaproxy.service ec2metaproxy.socket",
    mends: "systemctl start ec2metaproxy",
    says: { check: /FAIL +unit[^\n]*containers get no answer/, explain: /proxy is not running/ },
  },
  {
    name: "only the service is stopped",
    breaks: "systemctl stop ec2metaproxy.service",
    mends: "systemctl start ec2metaproxy",
    says: { check: /warn +unit[^\n]*next request to its socket starts it/ },
  },
  {
    name: "the guard is stopped",
    breaks: "systemctl stop ec2metaproxy-guard",
    mends: "systemctl start ec2metaproxy-guard",
    says: {
      status: /guard[^\n]*not connected/,
      systemctl: /guard/,
      check: /FAIL +unit[^\n]*containers that start now get 503/,
      metrics: /^ec2metaproxy_guard_connected 0$/m,
      journal: /guard-lost/,
    },
  },
  {
    name: "the guard hangs",
    // Without its watchdog, which would start another one.
    breaks:
      "mkdir -p /run/systemd/system/ec2metaproxy-guard.service.d; printf '[Service]\\nWatchdogSec=0\\n' >/run/systemd/system/ec2metaproxy-guard.service.d/test.conf; systemctl daemon-reload; systemctl restart ec2metaproxy-guard; sleep 2; systemctl kill --signal=STOP ec2metaproxy-guard",
    mends:
      "rm -r /run/systemd/system/ec2metaproxy-guard.service.d; systemctl daemon-reload; systemctl kill --signal=CONT ec2metaproxy-guard; systemctl restart ec2metaproxy-guard",
    says: { status: /guard[^\n]*not connected/, metrics: /^ec2metaproxy_healthy 0$/m },
  },
  {
    name: "the firewall unit is disabled",
    breaks: "systemctl disable ec2metaproxy-firewall",
    mends: "systemctl enable ec2metaproxy-firewall",
    says: { check: /warn +unit[^\n]*CONTAINERS REACH THE INSTANCE'S OWN ROLE/ },
  },
  {
    name: "notify.node is gone",
    breaks: "mv /usr/lib/ec2metaproxy/notify.node /root/; systemctl restart ec2metaproxy || true",
    mends: `mv /root/notify.node /usr/lib/ec2metaproxy/; ${restart}`,
    says: { check: /FAIL +unit[^\n]*notify\.node/ },
  },
  {
    name: "another program has the port",
    breaks:
      "systemctl stop ec2metaproxy.service ec2metaproxy.socket; systemd-run --quiet --unit=thief python3 -m http.server 18000; sleep 2; systemctl start ec2metaproxy || true",
    mends: `systemctl stop thief; ${restart}`,
    says: { check: /FAIL +port[^\n]*another program has port 18000/ },
  },
  {
    name: "/run is full",
    breaks:
      "mount -o remount,size=$(($(df --output=used --block-size=1k /run | tail -n 1) + 1024))k /run; dd if=/dev/zero of=/run/filler bs=1k count=4096 2>/dev/null",
    mends: "rm /run/filler; mount -o remount,size=50% /run",
    says: { check: /FAIL +space[^\n]*full/ },
  },
  // Configuration
  {
    name: "the configuration has a mistake, and is reloaded",
    breaks: `sed -i 's/aliasToARN/aliasToARM/' ${configPath}; systemctl reload ec2metaproxy || true`,
    mends: `sed -i 's/aliasToARM/aliasToARN/' ${configPath}; systemctl reload ec2metaproxy`,
    says: {
      status: /reload refused[\s\S]*aliasToARM/,
      systemctl: /reload refused/,
      check: /aliasToARM/,
      metrics: /^ec2metaproxy_config_valid 0$/m,
      journal: /reload-refused/,
    },
  },
  {
    name: "the configuration has a mistake, and the service is restarted",
    breaks: `sed -i 's/aliasToARN/aliasToARM/' ${configPath}; systemctl restart ec2metaproxy || true`,
    mends: `sed -i 's/aliasToARM/aliasToARN/' ${configPath}; ${restart}`,
    says: { check: /aliasToARM/, journal: /aliasToARM/ },
  },
  {
    name: "the service's user may not read the configuration",
    breaks: `chown root:root ${configPath}; chmod 0600 ${configPath}`,
    mends: `chown root:ec2metaproxy ${configPath}; chmod 0640 ${configPath}`,
    says: { check: /FAIL +configuration[^\n]*may not read/ },
  },
  {
    name: "listen names another port than the socket",
    breaks: edited({ listen: ":18001" }),
    mends: asBefore,
    says: { check: /FAIL +port[^\n]*18001[^\n]*18000/, journal: /18001/ },
  },
  {
    name: "dockerHosts names a socket that is not there",
    breaks: edited({ dockerHosts: ["unix:///run/nowhere.sock"] }),
    mends: asBefore,
    says: {
      status: /engine unix:\/\/\/run\/nowhere\.sock[^\n]*not connected/,
      check: /FAIL +(guard|engine)[^\n]*nowhere/,
      metrics: /^ec2metaproxy_healthy 0$/m,
    },
  },
  {
    name: "no role is configured",
    breaks: edited({ aliasToARN: {} }),
    mends: asBefore,
    says: { check: /no role|unknown-alias/ },
  },
  // Environment
  {
    name: "HTTPS_PROXY is no URL",
    ...variable("HTTPS_PROXY=none"),
    says: { check: /HTTPS_PROXY/, journal: /HTTPS_PROXY/ },
  },
  {
    name: "AWS_REGION is an availability zone",
    ...variable("AWS_REGION=us-east-1a"),
    says: { check: /AWS_REGION/, journal: /AWS_REGION/ },
  },
  {
    name: "a key without its secret",
    ...variable("AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE"),
    says: { check: /AWS_SECRET_ACCESS_KEY/, journal: /AWS_SECRET_ACCESS_KEY/ },
  },
  {
    name: "AWS_CA_BUNDLE is not there",
    ...variable("AWS_CA_BUNDLE=/nowhere.pem"),
    says: { check: /AWS_CA_BUNDLE/, journal: /AWS_CA_BUNDLE/ },
  },
  {
    name: "AWS_PROFILE, which nothing reads",
    ...variable("AWS_PROFILE=production"),
    says: { check: /AWS_PROFILE/, journal: /variable-ignored[^\n]*AWS_PROFILE|AWS_PROFILE[^\n]*/ },
  },
  // Firewall
  {
    name: "the rules are removed, and their units masked",
    breaks:
      "systemctl stop ec2metaproxy-guard; systemctl mask ec2metaproxy-firewall.service ec2metaproxy-firewall-repair.service; ec2metaproxy firewall remove; systemctl start ec2metaproxy-guard",
    mends: `systemctl unmask ec2metaproxy-firewall.service ec2metaproxy-firewall-repair.service; systemctl restart ec2metaproxy-firewall; ${restart}`,
    says: {
      status: /firewall rules NOT IN FORCE/,
      systemctl: /firewall/,
      check: /FAIL +firewall/,
      probe: /ANSWERED BY THE REAL METADATA SERVICE/,
      metrics: /^ec2metaproxy_firewall_in_force 0$/m,
    },
  },
  {
    name: "firewall.conf has a mistake",
    breaks:
      "echo LAYER2=maybe >/etc/ec2metaproxy/firewall.d/wrong.conf; systemctl reload ec2metaproxy-firewall || true; systemctl reload ec2metaproxy",
    mends:
      "rm /etc/ec2metaproxy/firewall.d/wrong.conf; systemctl reload ec2metaproxy-firewall; systemctl reload ec2metaproxy",
    says: {
      status: /firewall rules cannot be checked[^\n]*LAYER2/,
      check: /FAIL +firewall[^\n]*problem/,
      metrics: /^ec2metaproxy_firewall_in_force 0$/m,
      journal: /LAYER2/,
    },
  },
  {
    name: "INPUT ends in REJECT, as on RHEL",
    ...inputRule("-j REJECT"),
    says: { probe: /INPUT[^\n]*dropped the packet[\s\S]*iptables -I INPUT/ },
  },
  {
    name: "a leftover rule drops the proxy's port",
    ...inputRule("-p tcp --dport 18000 ! -i eth9 -j DROP"),
    says: { probe: /INPUT[^\n]*dropped the packet/ },
  },
  {
    name: "INPUT jumps into a chain that drops, as csf's",
    breaks:
      "iptables -N LOCALINPUT; iptables -A LOCALINPUT -j DROP; iptables -A INPUT -i docker0 -j LOCALINPUT",
    mends: "iptables -D INPUT -i docker0 -j LOCALINPUT; iptables -F LOCALINPUT; iptables -X LOCALINPUT",
    says: { probe: /LOCALINPUT[^\n]*dropped the packet/ },
  },
  {
    name: "an nft chain accepts by policy and drops by rule",
    breaks:
      "nft add table inet mine; nft 'add chain inet mine in { type filter hook input priority 10; policy accept; }'; nft add rule inet mine in iifname docker0 tcp dport 18000 drop",
    mends: "nft delete table inet mine",
    says: { probe: /table inet mine[^\n]*dropped the packet/ },
  },
  // Containers
  {
    name: "a container asks for an alias that is not configured",
    ...container("unknown1", { name: "unknown1", labels: { "ec2metaproxy.RoleAlias": "nobody" } }),
    says: {
      status: /unknown1: gets no role \(unknown-alias\)/,
      check: /unknown1/,
      explain: /unknown-alias/,
      metrics: /^ec2metaproxy_containers_not_served 1$/m,
    },
  },
  {
    name: "a label is misspelt",
    ...container("misspelt1", { name: "misspelt1", labels: { "ec2metaproxy.rolealias": "web" } }),
    says: {
      check: /misspelt1[^\n]*looks like ec2metaproxy\.RoleAlias|ec2metaproxy\.rolealias/,
      explain: /looks like ec2metaproxy\.RoleAlias/,
    },
  },
  {
    name: "IAM_ROLE has quotes",
    ...container("quoted1", { name: "quoted1", env: { IAM_ROLE: `"${role("Web")}"` } }),
    says: { status: /quoted1: gets no role/, explain: /quotes[^\n]*remove them/ },
  },
  {
    name: "IAM_ROLE is a role's name",
    ...container("named1", { name: "named1", env: { IAM_ROLE: "Reports" } }),
    says: { status: /named1: gets no role/, explain: /name of a role[^\n]*write its alias/ },
  },
  {
    name: "a container on the host's network asks for a role",
    ...container("hosted1", {
      name: "hosted1",
      network: "host",
      labels: { "ec2metaproxy.RoleAlias": "web" },
    }),
    says: {
      status: /hosted1: asks for the role[^\n]*host's network/,
      explain: /host's network/,
      metrics: /^ec2metaproxy_containers_not_served 1$/m,
    },
  },
  {
    name: "a sidecar asks for another role than the network's owner",
    about: "sidecar1",
    breaks: async ({ docker }) =>
      void (await docker.run({
        name: "sidecar1",
        network: "container:web1",
        labels: { "ec2metaproxy.RoleAlias": "data" },
      })),
    mends: async ({ docker }) => void (await docker.remove("sidecar1")),
    says: { status: /sidecar1: asks for the role/, explain: /network of web1/ },
  },
  {
    name: "two containers have one address",
    breaks: async (scene) => {
      const [address = ""] = Object.values(await scene.docker.addresses("web1"));
      await edited({ staticContainers: { [address]: { name: "vm1", alias: "data" } } })(scene);
    },
    mends: asBefore,
    says: {
      status: /has the same address as/,
      check: /FAIL +containers[^\n]*have the same address/,
      explain: /same address/,
      metrics: /^ec2metaproxy_healthy 0$/m,
    },
  },
  // Engine
  {
    name: "Docker is stopped",
    breaks: "systemctl stop docker.socket docker.service",
    mends: "systemctl start docker.service && docker start web1 web2",
    says: {
      status: /engine[^\n]*not connected/,
      systemctl: /not connected/,
      check: /FAIL +(guard|engine)/,
      metrics: /^ec2metaproxy_engine_connected\S* 0$/m,
    },
  },
  // The package
  {
    name: "an upgrade finds a configuration that it cannot use",
    breaks: `sed -i 's/aliasToARN/aliasToARM/' ${configPath}`,
    mends: `sed -i 's/aliasToARM/aliasToARN/' ${configPath}; ${restart}`,
    says: { package: /running services were left alone/, check: /aliasToARM/ },
  },
  // Nothing is wrong
  { name: "a healthy host", breaks: "true", mends: "true", healthy: true, says: {} },
  {
    name: "NO_PROXY names the metadata service and STS",
    ...variable("NO_PROXY=169.254.169.254,10.200.0.2"),
    healthy: true,
    says: {},
  },
  {
    name: "Podman beside Docker, as the manual says",
    breaks: async (scene) => {
      const { host } = scene;
      await host.exec("systemctl enable --now podman.socket");
      await edited({ dockerHosts: ["unix:///run/docker.sock", "unix:///run/podman/podman.sock"] })(scene);
      const podman = await containerEngine(host, "podman");
      await podman.run({ name: "pod1", labels: { "ec2metaproxy.RoleAlias": "data" } });
      await host.waitFor(async () => (await podman.inNetwork("pod1", askForCredentials)).code === 0, {
        what: "Podman's container to be served",
      });
    },
    mends: async (scene) => {
      await scene.host.exec("podman rm --force --time=0 pod1; systemctl disable --now podman.socket");
      await asBefore(scene);
    },
    healthy: true,
    says: {},
  },
  {
    name: "ufw is active",
    breaks: "ufw allow 18000/tcp && ufw --force enable",
    mends: "ufw --force disable",
    healthy: true,
    says: {},
  },
  {
    name: "firewalld is active",
    breaks:
      "systemctl start firewalld && firewall-cmd --permanent --add-port=18000/tcp && firewall-cmd --reload && systemctl reset-failed docker && systemctl restart docker && docker start web1 web2",
    mends:
      "systemctl stop firewalld; systemctl reset-failed docker; systemctl restart docker; docker start web1 web2",
    healthy: true,
    says: {},
  },
];
