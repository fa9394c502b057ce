import { join } from "node:path";
import t from "tap";
import { type FirewallOptions, firewall } from "../../../src/commands/firewall.ts";
import { OperatorError, report } from "../../../src/errors.ts";
import type { Outcome, Run } from "../../../src/firewall/command.ts";
import { renderBridgeTable } from "../../../src/firewall/nft-bridge.ts";
import { nftables } from "../../../src/firewall/nftables.ts";
import type { Log } from "../../../src/log.ts";
import { rulesOf } from "../firewall/configurations.ts";

const missing: Outcome = { kind: "missing" };
const says = (stdout: string): Outcome => ({ kind: "ran", exitCode: 0, stdout, stderr: "" });
const fails = (stderr: string): Outcome => ({ kind: "ran", exitCode: 1, stdout: "", stderr });

const addresses = [
  /^ip addr show$/,
  says("2: docker0: <UP>\n    inet 172.17.0.1/16 scope global docker0\n"),
] as const;
const frames = renderBridgeTable(["169.254.169.254", "fd00:ec2::254", "172.17.0.1"], "by kind");

const noEbtables = [/^ebtables /, missing] as const;

/** A host whose commands return these answers; the first match counts. An unexpected command is an error. */
function host(answers: readonly (readonly [pattern: RegExp, outcome: Outcome])[]) {
  const ran: string[] = [];
  const run: Run = async (command, args) => {
    const line = [command, ...args].join(" ");
    ran.push(line);
    const answer = [...answers, addresses, noEbtables].find(([pattern]) => pattern.test(line));
    if (answer === undefined) throw new Error(`unexpected command: ${line}`);
    return answer[1];
  };
  return { run, ran };
}

const emptyRouting = [
  [/^ip -[46] rule show/, says("")],
  [/^ip -[46] rule add/, says("")],
] as const;

type Said = { readonly code: number; readonly printed: string; readonly logged: readonly string[] };

async function command(
  run: Run,
  options: Partial<FirewallOptions> & { readonly settingsDirectory: string },
): Promise<Said> {
  const printed: string[] = [];
  const logged: string[] = [];
  const note = (_: unknown, message: string) => void logged.push(message);
  const log: Log = { debug() {}, info: note, warn: note, error: note };
  const all = { action: "apply", configPath: "", json: false, ...options } as const;
  try {
    const code = await firewall(all, { proxy: 18_000 }, (text) => printed.push(text), log, run, 0);
    return { code, printed: printed.join("\n"), logged };
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error;
    return { code: error.exitCode, printed: report(error), logged };
  }
}

t.test("render needs no root and reads only the addresses of the host", async (t) => {
  const { run, ran } = host([]);
  const said = await command(run, {
    action: "render",
    settingsDirectory: t.testdir({ "firewall.conf": "INTERFACES=docker0" }),
  });
  t.equal(said.printed, `${nftables(run).render(rulesOf("INTERFACES=docker0"))}${frames}`.trimEnd());
  t.strictSame(ran, ["ip addr show"]);
});

t.test(
  "bridges that an engine names are in the rules, and those that a pattern covers are there once",
  async (t) => {
    const settingsDirectory = t.testdir({ "firewall.conf": "INTERFACES=docker0" });
    const { run } = host([]);
    const said = await command(run, {
      action: "render",
      settingsDirectory,
      engineBridges: ["docker0", "shop0"],
    });
    t.match(said.printed, nftables(run).render(rulesOf("INTERFACES=docker0 shop0")).trimEnd());
  },
);

t.test("render --backend iptables overrides the settings", async (t) => {
  const settingsDirectory = t.testdir({ "firewall.conf": "BACKEND=nftables" });
  const said = await command(host([]).run, { action: "render", settingsDirectory, backend: "iptables" });
  t.match(said.printed, /^# iptables-restore --noflush\n\*mangle\n/);
});

t.test("without nft and iptables, apply says what to install and closes the host by routing", async (t) => {
  const { run, ran } = host([...emptyRouting, [/^(nft|ip6?tables)/, missing]]);
  const said = await command(run, { settingsDirectory: t.testdir({}) });
  t.equal(said.code, 69);
  t.match(said.printed, "nft: command not found; iptables-restore: command not found");
  t.match(said.printed, "Install the package nftables");
  t.ok(
    ran.includes("ip -4 rule add pref 170 to 169.254.169.254 blackhole"),
    "no container reaches the instance's role",
  );
  t.match(said.logged[0], "containers are kept from the metadata service by routing");
});

t.test("apply says that it needs root, whichever backend comes first", async (t) => {
  const { run } = host([
    [/^ip -[46] rule/, fails("RTNETLINK answers: Operation not permitted")],
    [/^nft/, fails("Operation not permitted (you must be root)")],
    [
      /^ip6?tables-save/,
      fails(
        "iptables-save v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)",
      ),
    ],
  ]);
  const said = await command(run, { settingsDirectory: t.testdir({}) });
  t.equal(said.code, 69);
  t.match(said.printed, /^checking table inet ec2metaproxy: nft: Operation not permitted/);
  t.match(said.printed, "Run it as root");
});

t.test("apply says which modules the kernel lacks", async (t) => {
  const unsupported = fails("/dev/stdin:1:11-28: Error: Could not process rule: Operation not supported");
  const { run } = host([...emptyRouting, [/^nft/, unsupported], [/^ip6?tables/, missing]]);
  const named = await command(run, { settingsDirectory: t.testdir({ "firewall.conf": "BACKEND=nftables" }) });
  t.equal(named.code, 69);
  t.match(named.printed, "Could not process rule: Operation not supported");
  t.match(named.printed, "modprobe -a nf_tables");
});

t.test("iptables is used if nft does not work, and the log says why", async (t) => {
  const { run } = host([
    ...emptyRouting,
    [/^nft/, missing],
    [/^conntrack/, missing],
    [/^ip6?tables(-nft|-legacy)?-save$/, says("")],
    [/^ip6?tables-restore/, says("")],
    [/^ip6?tables --version/, says("iptables v1.8.4 (legacy)")],
  ]);
  const said = await command(run, { settingsDirectory: t.testdir({}), json: true });
  t.match(JSON.parse(said.printed), {
    backend: "iptables",
    reason: "nft: command not found",
    changed: true,
    summary: "LAYER 2 OPEN: a neighbour with NET_RAW can speak as the host",
  });
  t.match(said.logged.join("\n"), "no rules for layer 2 on this host");
});

t.test(
  "invalid settings: every problem is printed, the exit code is 78, and the rules in force are not changed",
  async (t) => {
    const listing = nftables(host([]).run)
      .render(rulesOf(""))
      .replace(/^(add|delete) .*\n/gm, "");
    const { run, ran } = host([
      [/^ip -[46] rule show/, says("170:\tfrom all to 169.254.169.254 blackhole\n")],
      [/^nft -s list/, says(listing)],
    ]);
    const settingsDirectory = t.testdir({
      "firewall.conf": "# ours\nINTERFACE=docker0\nPROXY_PORT=99999",
      "firewall.d": { "10-site.conf": "METADATA_IPV4=fd00::1\nINTERFACES=br-0123456789abcdef" },
    });
    const said = await command(run, { settingsDirectory });
    t.equal(said.code, 78);
    t.equal(
      said.printed.replaceAll(settingsDirectory, "ETC"),
      [
        "the firewall settings in ETC have 4 problems; the rules in force were not changed",
        '  ETC/firewall.conf:2: unknown setting "INTERFACE". Did you mean "INTERFACES"?',
        '  ETC/firewall.conf:3: PROXY_PORT: expected a port from 1 to 65535, got "99999".',
        '  ETC/firewall.d/10-site.conf:1: METADATA_IPV4: expected an IPv4 address, got "fd00::1". EC2 uses 169.254.169.254.',
        '  ETC/firewall.d/10-site.conf:2: INTERFACES: "br-0123456789abcdef" has 19 characters; an interface name has at most 15.',
        "ec2metaproxy-firewall.conf(5) explains each setting.",
      ].join("\n"),
    );
    t.strictSame(
      ran.filter((line) => !/rule show|list/.test(line)),
      [],
    );
  },
);

t.test("invalid settings on a host without rules leave it closed", async (t) => {
  const { run, ran } = host([
    ...emptyRouting,
    [/^nft -s list/, fails("Error: No such file or directory")],
    [/^ip6?tables/, says("")],
  ]);
  const said = await command(run, { settingsDirectory: t.testdir({ "firewall.conf": "X=1" }) });
  t.equal(said.code, 78);
  t.ok(ran.includes("ip -4 rule add pref 170 to 169.254.169.254 blackhole"));
});

t.test("a user of HOST_ACCESS who does not exist is a problem with file and line", async (t) => {
  const { run } = host([
    [/^id -u -- nobody-here/, fails("id: 'nobody-here': no such user")],
    [/^id -u -- root/, says("0\n")],
    ...emptyRouting,
    [/^(nft|ip6?tables)/, missing],
  ]);
  const settingsDirectory = t.testdir({ "firewall.conf": "HOST_ACCESS=root nobody-here" });
  const said = await command(run, { settingsDirectory });
  t.equal(said.code, 78);
  t.match(
    said.printed,
    `${join(settingsDirectory, "firewall.conf")}:1: HOST_ACCESS: there is no user "nobody-here" on this host.`,
  );
});

t.test("HOST_ACCESS admits the named users and the proxy's user", async (t) => {
  const { run } = host([
    [/^id -u -- deploy/, says("1001\n")],
    [/^id -u -- ec2metaproxy/, says("998\n")],
  ]);
  const settingsDirectory = t.testdir({ "firewall.conf": "INTERFACES=docker0\nHOST_ACCESS='deploy 0'" });
  const said = await command(run, { action: "render", settingsDirectory });
  t.equal(
    said.printed,
    `${nftables(run).render(rulesOf("INTERFACES=docker0\nHOST_ACCESS=root", [0, 998, 1001]))}${frames}`.trimEnd(),
  );
});

t.test("remove deletes the guard's table too", async (t) => {
  const lock = "table bridge ec2metaproxy_lock";
  const { run, ran } = host([
    [/^nft -s list table bridge ec2metaproxy_lock$/, says(`${lock} {\n}\n`)],
    [/^nft -s list/, fails("Error: No such file or directory")],
    [/^nft delete table bridge ec2metaproxy_lock$/, says("")],
    [/^nft list tables$/, says("table inet other\n")],
    [/^ip6?tables/, missing],
    [/^ip -[46] rule show/, says("")],
  ]);
  const said = await command(run, { action: "remove", settingsDirectory: t.testdir({}) });
  t.equal(said.code, 0);
  t.match(said.printed, `removed ${lock}; containers can now reach`);
  t.same(
    ran.filter((line) => line.includes("delete")),
    ["nft delete table bridge ec2metaproxy_lock"],
  );
});

t.test("remove fails where a running guard has put the rules back, and says what to do", async (t) => {
  const lock = "table bridge ec2metaproxy_lock";
  const { run } = host([
    [/^nft -s list table bridge ec2metaproxy_lock$/, says(`${lock} {\n}\n`)],
    [/^nft -s list/, fails("Error: No such file or directory")],
    [/^nft delete table bridge ec2metaproxy_lock$/, says("")],
    [/^nft list tables$/, says(`table inet other\n${lock}\n`)],
    [/^ip6?tables/, missing],
    [/^ip -[46] rule show/, says("")],
  ]);
  const said = await command(run, { action: "remove", settingsDirectory: t.testdir({}) });
  t.equal(said.code, 1);
  t.match(said.printed, `but ${lock} came back`);
  t.match(said.printed, "systemctl stop ec2metaproxy-guard");
});
