import t from "tap";
import { guardFindings } from "../../../src/commands/guard-findings.ts";
import type { GuardView } from "../../../src/commands/guard-view.ts";
import { container } from "../guard/fixture.ts";

const path = "/run/ec2metaproxy-guard/containers.sock";
const [a, b, c] = [container("a", 2), container("b", 3), container("c", 4)];
const engine = {
  host: "unix:///var/run/docker.sock",
  connected: true,
  since: 1,
  lastError: undefined,
  apiVersion: "1.51",
  engine: "Docker 28.5.2",
  containers: 3,
};
const well: GuardView = {
  path,
  proxy: { kind: "connected", path, lastError: "" },
  silentBecause: undefined,
  version: "1.1.0",
  engines: [engine],
  containers: [a, b, c],
  protectionOf: () => ({ locked: true, reason: "" }),
};
const silent: GuardView = { ...well, containers: [], silentBecause: "there is no such socket" };
const withoutLocks: GuardView = {
  ...well,
  protectionOf: (id) => ({
    locked: id === a.id,
    reason: id === a.id ? "" : "the kernel has no bridge family of nftables",
  }),
};

type Row = {
  readonly what: string;
  readonly view: GuardView;
  readonly socket: readonly (boolean | undefined)[];
  readonly address: readonly (boolean | undefined)[];
  readonly text: RegExp;
};

const rows: readonly Row[] = [
  {
    what: "a guard that locks everything",
    view: well,
    socket: [true],
    address: [true],
    text: /3 of 3 containers locked/,
  },
  {
    what: "no guard, and a proxy that follows none",
    view: { ...silent, proxy: { kind: "without a guard" } },
    socket: [undefined],
    address: [false, false],
    text: /does not answer: there is no such socket/,
  },
  {
    what: "no guard and no proxy",
    view: { ...silent, proxy: { kind: "not running" } },
    socket: [undefined],
    address: [false],
    text: /does not answer/,
  },
  {
    what: "a guard that a running proxy depends on, and that does not answer",
    view: { ...silent, proxy: { kind: "not connected", path, lastError: "ECONNREFUSED" } },
    socket: [false, false],
    address: [false, false],
    text: /does not hear the guard.*ECONNREFUSED/,
  },
  {
    what: "a guard that answers, but not the proxy",
    view: { ...well, proxy: { kind: "not connected", path, lastError: "EACCES" } },
    socket: [false, true],
    address: [false, true],
    text: /does not hear.*EACCES/,
  },
  {
    what: "a guard that the running proxy does not follow",
    view: { ...well, proxy: { kind: "without a guard" } },
    socket: [undefined, true],
    address: [false, true],
    text: /started without --guard/,
  },
  {
    what: "a guard that cannot follow its engine",
    view: { ...well, engines: [{ ...engine, connected: false, lastError: "EACCES" }] },
    socket: [true, false],
    address: [true, false],
    text: /cannot follow unix:\/\/\/var\/run\/docker.sock: EACCES/,
  },
  {
    what: "containers without a lock",
    view: withoutLocks,
    socket: [true, undefined],
    address: [true, false],
    text: /not locked: cb, cc \(the kernel has no bridge family of nftables\)/,
  },
];

for (const { what, view, text, ...expected } of rows)
  for (const identityProof of ["socket", "address"] as const)
    t.test(`${what}, under "${identityProof}"`, (t) => {
      const findings = guardFindings({ identityProof }, view, view.containers);
      t.same(
        findings.map(({ ok }) => ok),
        expected[identityProof],
        findings.map((finding) => finding.text).join("\n"),
      );
      t.match(findings.map((finding) => finding.text).join("\n"), text);
      for (const { ok, hint } of findings) if (ok !== true) t.not(hint, "", "it says what to do");
      t.end();
    });

t.test("a thousand containers without a lock are one line for each reason", (t) => {
  const many = Array.from({ length: 1_000 }, (_, nth) => ({
    ...a,
    id: nth.toString(16).padStart(64, "0"),
    name: `c${nth}`,
  }));
  const view = {
    ...well,
    containers: [],
    protectionOf: (id: string) => ({ locked: false, reason: `reason ${Number.parseInt(id, 16) % 2}` }),
  };
  const findings = guardFindings({ identityProof: "socket" }, view, many);
  t.equal(findings.length, 3);
  t.match(findings[1]?.text, /c0, c2, .* and 490 more \(reason 0\)/);
  t.end();
});

t.test("what has no address, or is declared, has nothing to lock", (t) => {
  const view = { ...well, containers: [], protectionOf: () => ({ locked: false, reason: "x" }) };
  const containers = [
    { ...a, attachments: [] },
    { ...b, source: "static" as const },
  ];
  t.match(guardFindings({ identityProof: "address" }, view, containers), [
    { ok: true, text: /0 of 0 containers locked/ },
  ]);
  t.end();
});
