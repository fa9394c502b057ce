import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";

/** The script that both packages run after an upgrade, with commands that only write down that they ran. */
const script = new URL("../../../packaging/restart-upgraded", import.meta.url).pathname;

type Host = {
  readonly running?: readonly string[];
  /** Whether the new version accepts the file, and the firewall's settings. */
  readonly accepts?: boolean;
  /** Whether it also accepts what only root can read. */
  readonly acceptsAsRoot?: boolean;
  readonly rendersRules?: boolean;
  readonly execStart?: string;
};

const all = ["ec2metaproxy.service", "ec2metaproxy-firewall.service"];

function upgrade(
  t: Test,
  {
    running = all,
    accepts = true,
    acceptsAsRoot = true,
    rendersRules = true,
    execStart = "argv[]=/usr/bin/ec2metaproxy serve -c /etc/ec2metaproxy/config.json --guard /g ;",
  }: Host,
) {
  const stub = (body: string) => `#!/bin/sh\n${body}\n`;
  const stubs = {
    systemctl: stub(
      `case "$*" in *is-active*) for one in ${running.join(" ")}; do case "$*" in *" $one") exit 0 ;; esac; done; exit 3 ;; *show*) echo '{ path=x ; ${execStart} }' ;; *) echo "systemctl $*" >>"$LOG" ;; esac`,
    ),
    "systemd-run": stub(
      `echo "run $*" >>"$LOG"; ${accepts ? "exit 0" : "echo 'config.json:1: listenn: unknown key' >&2; exit 78"}`,
    ),
    ec2metaproxy: stub(
      `case "$*" in check*) ${acceptsAsRoot ? "exit 0" : "echo 'DOCKER_HOST: cannot use it' >&2; exit 78"} ;; esac; ${rendersRules ? "exit 0" : "echo 'firewall.conf:1: wrong' >&2; exit 78"}`,
    ),
    invoke: stub('echo "invoke $*" >>"$LOG"'),
  };
  const folder = t.testdir(stubs);
  spawnSync("chmod", ["755", ...Object.keys(stubs).map((name) => join(folder, name))]);
  const log = join(folder, "log");
  const { status, stderr } = spawnSync("sh", [script, "invoke"], {
    encoding: "utf8",
    env: { PATH: `${folder}:/usr/bin:/bin`, LOG: log },
  });
  const ran = (() => {
    try {
      return readFileSync(log, "utf8").trim().split("\n");
    } catch {
      return [];
    }
  })();
  return { status, stderr, ran, restarts: ran.filter((line) => line.startsWith("invoke")) };
}

t.test(
  "what runs is restarted, the guard before the proxy, after a check as the service's user",
  async (t) => {
    const { status, stderr, ran } = upgrade(t, {});
    t.same([status, stderr], [0, ""]);
    t.same(ran, [
      "invoke try-restart ec2metaproxy-firewall.service ec2metaproxy-firewall.timer",
      "run --quiet --collect --wait --pipe --uid=ec2metaproxy --gid=ec2metaproxy --property=EnvironmentFile=-/etc/ec2metaproxy/environment /usr/bin/ec2metaproxy check --config-only -c /etc/ec2metaproxy/config.json",
      "invoke restart ec2metaproxy-firewall-repair.path ec2metaproxy-guard.service",
      "invoke try-restart ec2metaproxy.service",
    ]);
  },
);

t.test(
  "where the new version rejects the file, proxy and guard are left alone, and it says why",
  async (t) => {
    const { status, stderr, restarts } = upgrade(t, { accepts: false });
    t.equal(status, 0);
    t.match(stderr, "listenn: unknown key");
    t.match(
      stderr,
      /cannot use \/etc\/ec2metaproxy\/config\.json .*left alone.*systemctl restart ec2metaproxy-guard ec2metaproxy/,
    );
    t.same(restarts, ["invoke try-restart ec2metaproxy-firewall.service ec2metaproxy-firewall.timer"]);
  },
);

t.test("the same with a variable that only root can read, or that only the guard uses", async (t) => {
  const { stderr, restarts } = upgrade(t, { acceptsAsRoot: false });
  t.match(stderr, /DOCKER_HOST: cannot use it[\s\S]* or the service's variables .*left alone/);
  t.same(restarts, ["invoke try-restart ec2metaproxy-firewall.service ec2metaproxy-firewall.timer"]);
});

t.test("wrong settings of the firewall leave its rules alone", async (t) => {
  const { stderr, restarts } = upgrade(t, { rendersRules: false });
  t.match(stderr, /firewall\.conf:1: wrong[\s\S]*its rules were left as they are/);
  t.notMatch(restarts.join(), "firewall.service");
  t.match(restarts.at(-1), "try-restart ec2metaproxy.service");
});

t.test("nothing is started or checked where nothing runs", async (t) => {
  t.match(upgrade(t, { running: [] }), { status: 0, stderr: "", ran: [] });
});

t.test("the file is the one that the unit names, also after a drop-in", async (t) => {
  const execStart = "argv[]=/usr/bin/ec2metaproxy serve -c /srv/my.json ;";
  t.match(upgrade(t, { execStart }).ran.join("\n"), "check --config-only -c /srv/my.json");
});
