import t from "tap";
import { unitFindings } from "../../../src/commands/unit-findings.ts";
import { packagedUnits, type Unit } from "../../../src/systemd/unit-states.ts";

const healthy = (name: string): Unit => ({
  name,
  isLoaded: true,
  load: "loaded",
  active: "active",
  sub: name.endsWith(".socket") ? "listening" : "running",
  file: "enabled",
  result: "success",
  restarts: 0,
  exitStatus: 0,
  user: "",
  group: "",
  environment: "",
  environmentFiles: [],
  configPath: undefined,
  followsGuard: true,
  ports: [],
});

type Changes = Readonly<Record<string, Partial<Unit>>>;
const off = { active: "inactive", sub: "dead" } as const;

function judged(changes: Changes) {
  const findings = unitFindings(packagedUnits.map((name) => ({ ...healthy(name), ...changes[name] })));
  return findings.filter(({ ok }) => ok !== true);
}

t.test("a healthy host has a line for each unit and no complaint", (t) => {
  const findings = unitFindings(packagedUnits.map(healthy));
  t.equal(findings.length, packagedUnits.length);
  t.same(judged({}), []);
  t.end();
});

const rows: readonly (readonly [
  what: string,
  Changes,
  ok: boolean | undefined,
  text: RegExp,
  hint: RegExp,
])[] = [
  [
    "service and socket are stopped",
    { "ec2metaproxy.service": off, "ec2metaproxy.socket": off },
    false,
    /containers get no answer/,
    /systemctl enable --now ec2metaproxy/,
  ],
  [
    "only the service is stopped",
    { "ec2metaproxy.service": off },
    undefined,
    /the next request to its socket starts it/,
    /enable --now/,
  ],
  [
    "the service ended with 78",
    { "ec2metaproxy.service": { active: "failed", sub: "failed", result: "exit-code", exitStatus: 78 } },
    false,
    /exit-code, exit status 78/,
    /must be edited: journalctl -u ec2metaproxy\.service/,
  ],
  [
    "the service crashes again and again",
    { "ec2metaproxy.service": { active: "activating", sub: "auto-restart", restarts: 12, exitStatus: 69 } },
    false,
    /started again, 12 times so far, exit status 69/,
    /journalctl/,
  ],
  [
    "the guard is stopped",
    { "ec2metaproxy-guard.service": off },
    false,
    /containers that start now get 503/,
    /enable --now/,
  ],
  [
    "the guard is stopped, and the proxy was started without one",
    { "ec2metaproxy-guard.service": off, "ec2metaproxy.service": { followsGuard: false } },
    undefined,
    /started without --guard: no address is locked/,
    /enable --now/,
  ],
  [
    "the guard is masked",
    { "ec2metaproxy-guard.service": { ...off, load: "masked", isLoaded: false, file: "masked" } },
    false,
    /masked/,
    /systemctl unmask ec2metaproxy-guard\.service/,
  ],
  [
    "the firewall is disabled",
    { "ec2metaproxy-firewall.service": { file: "disabled" } },
    undefined,
    /after the next boot CONTAINERS REACH THE INSTANCE'S OWN ROLE/,
    /systemctl enable ec2metaproxy/,
  ],
  [
    "the service is disabled",
    { "ec2metaproxy.service": { file: "disabled" } },
    undefined,
    /will not start at the next boot/,
    /systemctl enable/,
  ],
  [
    "the firewall failed",
    {
      "ec2metaproxy-firewall.service": {
        active: "failed",
        sub: "failed",
        result: "exit-code",
        exitStatus: 78,
      },
    },
    false,
    /exit status 78/,
    /journalctl -u ec2metaproxy-firewall/,
  ],
  [
    "a unit's file cannot be parsed",
    { "ec2metaproxy.service": { ...off, load: "bad-setting", isLoaded: false } },
    false,
    /bad-setting/,
    /systemctl status/,
  ],
  [
    "a unit is not installed",
    { "ec2metaproxy-guard.service": { load: "not-found", isLoaded: false } },
    false,
    /not installed/,
    /Reinstall/,
  ],
];

for (const [what, changes, ok, text, hint] of rows)
  t.test(`check says that ${what}`, (t) => {
    t.match(judged(changes)[0], { subject: "unit", ok, text, hint });
    t.end();
  });
