import t from "tap";
import { type ServiceChecks, serviceFindings } from "../../../src/commands/service-findings.ts";
import type { Services } from "../../../src/commands/services.ts";
import { parseConfig, readEnvironment } from "../../../src/config/load.ts";
import type { Outcome, Run } from "../../../src/firewall/command.ts";
import { packagedUnits, parseUnits } from "../../../src/systemd/unit-states.ts";

const configPath = "/etc/ec2metaproxy/config.json";
const units = parseUnits(
  packagedUnits
    .map(
      (name) => `Id=${name}
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
User=${name === "ec2metaproxy.service" ? "ec2metaproxy" : ""}
ExecStart={ path=/usr/bin/ec2metaproxy ; argv[]=/usr/bin/ec2metaproxy serve -c ${configPath} --guard /g ; }
${name.endsWith(".socket") ? "Listen=[::]:18000 (Stream)" : ""}`,
    )
    .join("\n\n"),
);
const services: Services = {
  units,
  unknownBecause: undefined,
  environment: readEnvironment({}),
  environmentOf: "service",
  unreadable: [],
};
const listens = (...users: readonly string[]) =>
  `LISTEN 0 4096 *:18000 *:*${users.length === 0 ? "" : ` users:(${users.join(",")})`}\n`;
const ours = listens('("ec2metaproxy",pid=7,fd=3)', '("systemd",pid=1,fd=40)');

type Given = {
  readonly sockets?: string;
  readonly setpriv?: Outcome;
  readonly config?: object;
  readonly checks?: Partial<ServiceChecks>;
  readonly services?: Partial<Services>;
  readonly path?: string;
};

/** What is no "ok", for a healthy host with these changes. */
async function complaints(given: Given = {}) {
  const run: Run = async (command) =>
    command === "ss"
      ? { kind: "ran", exitCode: 0, stdout: given.sockets ?? ours, stderr: "" }
      : (given.setpriv ?? { kind: "ran", exitCode: 0, stdout: "", stderr: "" });
  const parsed = parseConfig(JSON.stringify(given.config ?? {}), "config.json");
  if (!parsed.ok) throw new Error("the configuration is wrong");
  const checks: ServiceChecks = {
    run,
    isRoot: true,
    isProxy: async (pid) => pid === 7,
    space: async () => ({ bytes: 1e9, files: 1e6 }),
    ...given.checks,
  };
  const all = { ...services, ...given.services };
  const findings = await serviceFindings(all, parsed.config, given.path ?? configPath, checks);
  return findings.filter(({ ok }) => ok !== true);
}

t.test("a healthy host has no complaint", async (t) => {
  t.same(await complaints(), []);
});

const failed = (stderr: string, exitCode = 1): Outcome => ({ kind: "ran", exitCode, stdout: "", stderr });
const rows: readonly (readonly [what: string, Given, ok: boolean | undefined, text: RegExp, hint: RegExp])[] =
  [
    [
      "another program has the port",
      { sockets: listens('("python3",pid=9,fd=3)') },
      false,
      /another program has port 18000: python3 \(pid 9\)/,
      /give the proxy another port/,
    ],
    ["nobody listens", { sockets: "" }, false, /nobody listens on port 18000/, /systemctl start/],
    [
      "an ordinary user cannot see who listens",
      { sockets: listens(), checks: { isRoot: false } },
      undefined,
      /cannot see who/,
      /as root/,
    ],
    [
      "config.json and the socket have different ports",
      { config: { listen: ":18100" } },
      false,
      /says port 18100, and ec2metaproxy\.socket listens on 18000/,
      /before `ec2metaproxy firewall apply`/,
    ],
    [
      "the service's user may not read the configuration",
      { setpriv: failed("Command failed with exit code 1") },
      false,
      /user ec2metaproxy may not read \/etc\/ec2metaproxy\/config\.json/,
      /chown root:ec2metaproxy/,
    ],
    [
      "the service's user does not exist",
      { setpriv: failed("setpriv: failed to parse reuid") },
      false,
      /user ec2metaproxy cannot be used/,
      /systemd-sysusers/,
    ],
    [
      "the service reads another file",
      { path: "/tmp/new.json" },
      undefined,
      /the service reads \/etc\/ec2metaproxy\/config\.json/,
      /^$/,
    ],
    [
      "/run is full",
      { checks: { space: async (path) => ({ bytes: path === "/run" ? 0 : 1e9, files: 1e6 }) } },
      false,
      /\/run is full \(0 bytes left\)/,
      /du -xah \/run/,
    ],
    [
      "/run has no files left",
      { checks: { space: async (path) => ({ bytes: 1e9, files: path === "/run" ? 3 : undefined }) } },
      false,
      /\/run is full \(3 files left\)/,
      /du/,
    ],
    [
      "the environment file cannot be read",
      { services: { unreadable: ["EACCES: permission denied, open '/etc/ec2metaproxy/environment'"] } },
      undefined,
      /EACCES.*STS is checked with the variables of this shell/,
      /as root/,
    ],
    [
      "nothing is installed",
      { services: { units: [], unknownBecause: "systemctl: command not found" } },
      undefined,
      /no unit was checked: systemctl: command not found/,
      /^$/,
    ],
  ];

for (const [what, given, ok, text, hint] of rows)
  t.test(`check says that ${what}`, async (t) => {
    t.match(await complaints(given), [{ ok, text, hint }]);
  });

t.test("a port that another program has is named also where no unit is installed", async (t) => {
  const given = { sockets: listens('("nginx",pid=9,fd=3)'), services: { units: [] } };
  t.match(await complaints(given), [{ subject: "unit" }, { ok: false, text: /nginx \(pid 9\)/ }]);
});
