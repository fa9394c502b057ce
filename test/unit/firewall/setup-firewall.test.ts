import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";

const root = join(import.meta.dirname, "../../..");
const script = join(root, "scripts/setup-firewall.sh");

/** Runs the script. The program is the real one, or what is given. */
function setup(
  settings: string,
  args: readonly string[],
  program = `${process.execPath} ${join(root, "src/main.ts")}`,
) {
  const env = { PATH: process.env.PATH, EC2METAPROXY: program, EC2METAPROXY_SETTINGS: settings };
  const { status, stdout, stderr } = spawnSync("sh", [script, ...args], { env, encoding: "utf8" });
  return { status, stdout, stderr };
}

t.test("the arguments of earlier systems become rules, and a dry run writes nothing", (t) => {
  const settings = t.testdir({});
  const args = [
    "--container-iface",
    "docker0",
    "--container-iface=br-*",
    "--proxy-port",
    "8181",
    "--metadata-ip=192.0.2.1",
    "--metadata-port",
    "8080",
  ];
  const { status, stdout } = setup(settings, [...args, "--dry-run"]);
  t.equal(status, 0);
  for (const name of ["docker0", "br-*"]) {
    t.match(stdout, `iifname "${name}" ip daddr 192.0.2.1 tcp dport 8080 counter redirect to :8181`);
  }
  t.notMatch(stdout, "podman");
  t.notOk(existsSync(join(settings, "firewall.d")));
  t.end();
});

t.test("the host's own settings count, and the arguments come last", (t) => {
  const settings = t.testdir({
    "firewall.conf": "REJECT_INSTEAD_OF_DROP=yes\nINTERFACES=lxdbr0\n",
    "firewall.d": { "99-site.conf": "PROXY_PORT=1234\n" },
  });
  const { stdout } = setup(settings, ["--container-iface", "docker0", "--dry-run"]);
  t.match(stdout, "reject with icmpx");
  t.match(stdout, 'iifname "docker0" ip daddr 169.254.169.254 tcp dport 80 counter redirect to :1234');
  t.notMatch(stdout, "lxdbr0");
  t.end();
});

const mistakes: readonly {
  readonly args: readonly string[];
  readonly status: number;
  readonly says: string;
}[] = [
  { args: [], status: 64, says: "name the bridge of the containers: --container-iface docker0" },
  { args: ["--container-iface"], status: 64, says: "--container-iface needs a value" },
  { args: ["--container-iface", "--proxy-port"], status: 64, says: '"--proxy-port" is no value for it' },
  { args: ["--container-iface", 'a"; rm'], status: 64, says: "is no value for it" },
  { args: ["--container-iface=x", "--bridge=y"], status: 64, says: "there is no option --bridge" },
  {
    args: ["--container-iface=x", "--proxy-port=99999", "--dry-run"],
    status: 78,
    says: "expected a port from 1 to 65535",
  },
];

for (const { args, status, says } of mistakes) {
  t.test(`"${args.join(" ")}" is refused`, (t) => {
    t.match(setup(t.testdir({}), args), { status, stderr: says });
    t.end();
  });
}

t.test("--save keeps what was applied, and overwrites other settings only with --force", (t) => {
  const settings = t.testdir({});
  const saved = join(settings, "firewall.d/zz-setup-firewall.conf");
  // A program that accepts everything: applying for real needs root, and is tried in the network namespaces.
  const save = (...args: string[]) => setup(settings, [...args, "--save"], "true");
  t.match(save("--container-iface=docker0"), { status: 0, stdout: `saved in ${saved}` });
  t.equal(
    readFileSync(saved, "utf8"),
    '# Written by setup-firewall.sh from its arguments.\nINTERFACES="docker0"\n',
  );
  t.match(save("--container-iface=docker0"), { status: 0 });
  t.match(save("--container-iface=docker1"), { status: 1, stderr: "--force overwrites them" });
  t.match(save("--container-iface=docker1", "--force"), { status: 0 });
  t.match(readFileSync(saved, "utf8"), 'INTERFACES="docker1"');
  t.match(setup(settings, ["--container-iface=docker2", "--save", "--force"], "false"), { status: 1 });
  t.match(readFileSync(saved, "utf8"), 'INTERFACES="docker1"', "what could not be applied is not saved");
  t.end();
});
