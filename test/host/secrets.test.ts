import t from "tap";
import { issuedSecretMarker, issuedTokenMarker, leakMarker } from "../support/aws/account.ts";
import {
  askForCredentials,
  configPath,
  installDeb,
  pointAtSts,
  property,
  writeConfig,
} from "../support/host/appliance.ts";
import { startAws } from "../support/host/aws.ts";
import { bootFor } from "../support/host/boot.ts";
import { builtPackages } from "../support/host/built-packages.ts";
import { containerEngine } from "../support/host/engine.ts";
import type { TestHost } from "../support/host/host.ts";
import { canBoot } from "../support/host/requirements.ts";

const role = (name: string) => `arn:aws:iam::123456789012:role/containers/${name}`;
const config = {
  verbose: true,
  defaultAlias: "web",
  aliasToARN: {
    web: role("Web"),
    refused: role("fault-accessDenied"),
    broken: role("fault-malformedXml"),
    failing: role("fault-status500"),
  },
  containerCredentials: { listen: "172.17.0.1:18002" },
  metricsListen: "127.0.0.1:18009",
};
const containers = ["web1", "web2", "refused1", "broken1", "failing1"];
const services = [
  "ec2metaproxy.service",
  "ec2metaproxy-firewall.service",
  "ec2metaproxy-firewall-repair.service",
];

/** The output of every command and interface for operators, with errors, by command. */
async function operatorOutput(host: TestHost): Promise<ReadonlyMap<string, string>> {
  const shown = new Map<string, string>();
  const commands = [
    "ec2metaproxy status",
    "ec2metaproxy status --json",
    "ec2metaproxy check",
    "ec2metaproxy check --json",
    "ec2metaproxy firewall status",
    "ec2metaproxy firewall render",
    ...containers.flatMap((name) => [`ec2metaproxy explain ${name}`, `ec2metaproxy explain ${name} --json`]),
    "curl -s -m 5 http://127.0.0.1:18009/metrics",
    "systemctl status --no-pager --full ec2metaproxy.socket ec2metaproxy.service ec2metaproxy-firewall.service",
    "systemctl show --no-pager ec2metaproxy.service",
    "cat /proc/$(systemctl show --value --property=MainPID ec2metaproxy.service)/cmdline | tr '\\0' ' '",
    "grep -ra . /run/ec2metaproxy /run/ec2metaproxy-firewall /var/lib/ec2metaproxy /var/log --exclude-dir=journal 2>/dev/null",
  ];
  for (const command of commands) {
    const { stdout, stderr } = await host.exec(command, { check: false, timeoutMs: 60_000 });
    shown.set(command, `${stdout}${stderr}`);
  }
  // All units: messages of the kernel and of systemd are kept too.
  shown.set("journalctl", await host.journal(undefined, 1_000_000));
  return shown;
}

if (canBoot(t)) {
  t.test("no log, output or metric contains a secret, whatever fails", async (t) => {
    const host = await bootFor(t, { suite: "bookworm" });
    const aws = await startAws(host);
    const docker = await containerEngine(host, "docker");
    await installDeb(host, builtPackages().deb);
    await pointAtSts(host);
    await writeConfig(host, config);
    await host.exec("systemctl enable --now ec2metaproxy");
    for (const name of containers)
      await docker.run({ name, labels: { "ec2metaproxy.RoleAlias": name.replace(/\d$/, "") } });

    /** Answers without credentials. */
    const refusals: string[] = [];
    const given: string[] = [];
    const tokens = new Set<string>();
    const requestAs = async (name: string) => {
      const shell = (command: string) => docker.inNetwork(name, command, { check: false, timeoutMs: 60_000 });
      const imds = await shell(
        `${askForCredentials.replaceAll("curl -sf", "curl -s")}; printf '\\n%s\\n' "$T"`,
      );
      const token = imds.stdout.trim().split("\n").at(-1) ?? "";
      tokens.add(token);
      const ecs = await shell("curl -s -m 10 http://172.17.0.1:18002/v1/credentials");
      for (const answer of [imds.stdout.replace(token, ""), ecs.stdout])
        (answer.includes("SecretAccessKey") ? given : refusals).push(answer);
      for (const path of ["user-data", "meta-data/iam/security-credentials/ec2-host-role"]) {
        const header = `X-aws-ec2-metadata-token: ${token}`;
        refusals.push(
          (await shell(`curl -s -m 5 -H '${header}' http://169.254.169.254/latest/${path}`)).stdout,
        );
      }
    };
    const requestAsAll = () => Promise.all(containers.map(requestAs));

    await requestAsAll();
    for (const [what, faults] of [
      ["STS hangs", { sts: { hang: true } }],
      ["STS hangs up", { sts: { dropConnection: true } }],
      ["STS's answers are cut", { sts: { malformedXml: true } }],
      ["the host's keys have expired", { sts: { expiredHostToken: true } }],
      ["IMDS hangs up", { sts: {}, imds: { dropConnection: true } }],
      ["IMDS fails", { imds: { status: 500 } }],
      ["all is well again", { imds: {}, sts: {} }],
    ] as const) {
      await aws.reset();
      await aws.setFaults(faults);
      await host.exec("systemctl restart ec2metaproxy");
      await requestAsAll();
      t.comment(`requests while ${what}: ${given.length} answers with credentials so far`);
    }
    await aws.rotate();
    await writeConfig(host, { ...config, defaultAlias: "nobody", listen: 5 });
    await host.exec("systemctl reload ec2metaproxy", { check: false });
    await host.exec(`systemctl kill --signal=ABRT --kill-whom=main ec2metaproxy`);
    await writeConfig(host, config);
    // It says that some containers are not served; 69 would mean that it does not answer.
    await host.waitFor(async () => (await host.exec("ec2metaproxy status", { check: false })).code === 1, {
      timeoutMs: 20_000,
      what: "the service to be back after SIGABRT",
    });
    await requestAsAll();

    const secrets = await aws.secrets();
    const handedOut = secrets.filter(({ secretAccessKey }) => given.join().includes(secretAccessKey));
    t.ok(handedOut.length >= 4, `containers were given ${handedOut.length} sets of credentials`);
    const needles = [
      leakMarker,
      issuedSecretMarker,
      issuedTokenMarker,
      ...tokens,
      ...secrets.flatMap(({ secretAccessKey, sessionToken }) => [secretAccessKey, sessionToken]),
    ].filter((needle) => needle !== "");
    const held = (text: string) => needles.filter((needle) => text.includes(needle));
    t.ok(held(given.join()).length > 2, "the search finds them where they belong");

    const shown = await operatorOutput(host);
    for (const [where, text] of shown) t.same(held(text), [], where);
    t.same(held(refusals.join("\n")), [], `${refusals.length} answers without credentials`);
    const journal = shown.get("journalctl") ?? "";
    t.ok(
      handedOut.some(({ accessKeyId }) => journal.includes(accessKeyId)),
      "it is the right journal: it contains the access key ids that were issued",
    );
    for (const word of ["AccessDenied", "UnusableAnswer", "InternalFailure", "Timeout"])
      t.match(journal, word, `the journal contains ${word}`);
    t.match(shown.get("curl -s -m 5 http://127.0.0.1:18009/metrics"), /^ec2metaproxy_/m);
    t.match(shown.get("ec2metaproxy explain web1"), role("Web"));

    for (const unit of services)
      t.equal(await property(host, unit, "LimitCORE"), "0", `${unit} leaves no core`);
    const cores = await host.exec(
      "find / -xdev \\( -name 'core' -o -name 'core.*' -o -path '/var/lib/systemd/coredump/*' \\) -type f -newer /etc/ec2metaproxy/environment 2>/dev/null | grep -v /proc/",
      { check: false },
    );
    t.equal(cores.stdout, "", "SIGABRT left none");
    const modes = await host.exec(`stat -c '%a %U' /run/ec2metaproxy/token-key ${configPath}`);
    t.match(
      modes.stdout,
      /^(600|400) ec2metaproxy$/m,
      "only the service can read the key of the session tokens",
    );
  });
}
