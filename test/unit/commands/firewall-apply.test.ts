import t from "tap";
import { firewall } from "../../../src/commands/firewall.ts";
import { OperatorError } from "../../../src/errors.ts";
import { type Outcome, type Run, run as runCommand } from "../../../src/firewall/command.ts";
import { renderBridgeTable } from "../../../src/firewall/nft-bridge.ts";
import { nftables } from "../../../src/firewall/nftables.ts";
import type { Log } from "../../../src/log.ts";
import { rulesOf } from "../firewall/configurations.ts";

const says = (stdout: string): Outcome => ({ kind: "ran", exitCode: 0, stdout, stderr: "" });
const fails = (stderr: string, exitCode = 1): Outcome => ({ kind: "ran", exitCode, stdout: "", stderr });

type Call = { readonly line: string; readonly input: string };
type Answer = readonly [matches: (call: Call) => boolean, outcome: Outcome];

const addresses = "2: docker0: <UP>\n    inet 172.17.0.1/16 scope global docker0\n";
const guarded = (address: string) =>
  `169:\tfrom all to ${address} iif lo goto 171\n170:\tfrom all to ${address} blackhole\n171:\tfrom all to ${address} nop\n`;
const listed = (rendered: string) => rendered.replace(/^(add|delete) table .*\n/gm, "");
const packets = listed(nftables(runCommand).render(rulesOf("")));
const frames = listed(renderBridgeTable(["169.254.169.254", "fd00:ec2::254", "172.17.0.1"], "by kind"));

/** A host with all rules in force, and with nft, iptables and ebtables. */
const inForce: readonly Answer[] = [
  [({ line }) => line === "ip addr show", says(addresses)],
  [({ line }) => line === "ip -4 rule show", says(guarded("169.254.169.254"))],
  [({ line }) => line === "ip -6 rule show", says(guarded("fd00:ec2::254"))],
  [({ line }) => line === "nft -s list table inet ec2metaproxy", says(packets)],
  [({ line }) => line === "nft -s list table bridge ec2metaproxy", says(frames)],
  [() => true, says("")],
];

/** @param first answers that take precedence over the host's */
async function apply(settingsDirectory: string, ...first: readonly Answer[]) {
  const changes: string[] = [];
  const run: Run = async (command, args, input = "") => {
    const call = { line: [command, ...args].join(" "), input };
    const reads =
      /^(ip addr show|ip -[46] rule show|nft (-c|-s) |\S+-save$|\S+-restore .*--test$|\S+ -t nat -L )/;
    if (!reads.test(call.line)) changes.push(call.line);
    const outcome = [...first, ...inForce].find(([matches]) => matches(call))?.[1];
    if (outcome === undefined) throw new Error(`unexpected command: ${call.line}`);
    return outcome;
  };
  const printed: string[] = [];
  const logged: string[] = [];
  const note = (_: unknown, message: string) => void logged.push(message);
  const log: Log = { debug() {}, info: note, warn: note, error: note };
  const options = { action: "apply", configPath: "", settingsDirectory, json: false } as const;
  try {
    const code = await firewall(options, { proxy: 18_000 }, (text) => printed.push(text), log, run);
    return { code, text: printed.join("\n"), changes, logged };
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error;
    return { code: error.exitCode, text: `${error.message}\n${error.hint}`, changes, logged };
  }
}

const checks =
  (table: string) =>
  ({ line, input }: Call) =>
    line === "nft -c -f -" && input.includes(`add table ${table}`);

function once(matches: (call: Call) => boolean): (call: Call) => boolean {
  let done = false;
  return (call) => {
    const now = !done && matches(call);
    done ||= now;
    return now;
  };
}

t.test("a host with all rules in force is not changed", async (t) => {
  const said = await apply(t.testdir({}));
  t.match(said, { code: 0, text: "already in place", changes: [] });
});

const temporary: readonly { readonly what: string; readonly first: Answer }[] = [
  {
    what: "no process for `ip addr show`",
    first: [({ line }) => line === "ip addr show", fails("spawn ip EAGAIN", 255)],
  },
  {
    what: "no memory once to check the bridge table",
    first: [once(checks("bridge")), fails("netlink: Error: Could not process rule: Cannot allocate memory")],
  },
  {
    what: "a bridge table that stays busy",
    first: [checks("bridge"), fails("Error: Could not process rule: Device or resource busy")],
  },
  {
    what: "a check of the inet table that times out",
    first: [checks("inet"), fails("Command timed out after 20000 milliseconds: nft -c -f -", 255)],
  },
  {
    what: "a check of the inet table that is killed",
    first: [checks("inet"), fails("Command was killed with SIGKILL (Forced termination): nft -c -f -", 255)],
  },
];

for (const { what, first } of temporary) {
  t.test(`${what}: apply fails and changes nothing`, async (t) => {
    const said = await apply(t.testdir({}), first);
    t.equal(said.code, 69);
    t.match(said.text, "The rules in force were not changed");
    t.strictSame(said.changes, []);
  });
}

for (const chain of ["PREROUTING", "EC2METAPROXY"]) {
  t.test(`a temporary failure to list the ebtables chain ${chain} is not an empty listing`, async (t) => {
    const bridgeFamily = ({ line, input }: Call) =>
      /^nft (-c|-f)/.test(line) && input.includes("table bridge");
    const said = await apply(
      t.testdir({}),
      [bridgeFamily, fails("Error: Could not process rule: Operation not supported")],
      [({ line }) => line === `ebtables -t nat -L ${chain}`, fails("Cannot allocate memory")],
    );
    t.match(said, { code: 69, text: "reading the ebtables rules: ebtables: Cannot allocate memory" });
    t.strictSame(said.changes, []);
  });
}

t.test("if the kernel lacks a feature, the next filter is used", async (t) => {
  const unsupported = fails("Error: Could not process rule: Operation not supported");
  const kinds = await apply(t.testdir({}), [
    ({ line, input }) => line === "nft -c -f -" && input.includes("iifkind"),
    unsupported,
  ]);
  t.match(kinds, { code: 0, text: "BUT ports that are not called veth* pass" });
  const inet = await apply(t.testdir({}), [checks("inet"), unsupported]);
  t.match(inet, { code: 0, text: /^iptables: / });
});

t.test(
  "without a usable frame filter the rules in force stay; with LAYER2=off they are removed",
  async (t) => {
    const none: Answer = [
      ({ line, input }) =>
        (line === "nft -c -f -" && input.includes("table bridge")) || line.startsWith("ebtables"),
      fails("Operation not supported"),
    ];
    t.match(await apply(t.testdir({}), none), { code: 0, text: "LAYER 2 OPEN", changes: [] });
    const off = await apply(t.testdir({ "firewall.conf": "LAYER2=off" }));
    t.match(off, { code: 0, text: "LAYER 2 OPEN" });
    t.ok(off.changes.includes("nft delete table bridge ec2metaproxy"));
  },
);

t.test("an ordinary user is told to be root, and nothing about rules that it cannot see", async (t) => {
  const denied = fails("netlink: Error: cache initialization failed: Operation not permitted");
  const said = await apply(
    t.testdir({}),
    [({ line }) => line.startsWith("nft"), denied],
    [({ line }) => /^ip -[46] rule add/.test(line), fails("RTNETLINK answers: Operation not permitted", 2)],
    [({ line }) => /^ip -[46] rule show/.test(line), { kind: "ran", exitCode: 0, stdout: "", stderr: "" }],
  );
  t.equal(said.code, 69);
  t.match(said.text, "Run it as root");
  t.notMatch(said.logged.join(), "NO FIREWALL RULES");
});
