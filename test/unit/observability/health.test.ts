import t from "tap";
import { failures } from "../../../src/credentials/failures.ts";
import { MetadataError } from "../../../src/metadata/error.ts";
import {
  type Health,
  type HealthFacts,
  type HealthPart,
  healthOf,
} from "../../../src/observability/health.ts";

const guard: NonNullable<HealthFacts["guard"]> = {
  path: "/g.sock",
  connected: true,
  since: 0,
  lastError: undefined,
  version: "1.1.0",
  host: { firewall: { state: "in-force", since: 0, reason: "" }, lockTrouble: "" },
};
const firewall = (state: "in-force" | "not-in-force" | "check-failed" | "unknown", reason = "") => ({
  guard: { ...guard, host: { firewall: { state, since: 0, reason }, lockTrouble: "" } },
});
const well: HealthFacts = {
  configProblem: undefined,
  configPath: "/etc/ec2metaproxy/config.json",
  roles: 1,
  identityProof: "socket",
  engines: [{ host: "unix:///a.sock", connected: true, lastError: undefined }],
  guard,
  credentials: { state: "normal", failure: undefined },
  metadata: { failure: undefined, quietMs: 1_000 },
  hostProblem: undefined,
  needsMetadata: true,
  stranger: undefined,
  containers: [{ name: "web", isUnlocked: false, verdict: { kind: "served", message: "", hint: "" } }],
};
const failure = {
  calls: 2,
  forMs: 10_000,
  kind: "temporary",
  code: "ECONNRESET",
  message: "socket hang up",
  failure: "connection-reset",
  cause: "the connection was closed",
  cure: "Check the route.",
} as const;
const metadata = (exchanges: number, forMs: number, how: { status?: number; isLate?: boolean }) => ({
  metadata: {
    failure: { exchanges, forMs, error: new MetadataError("no-answer", "asking it", how) },
    quietMs: 1,
  },
});
const failing = (message: string) => ({
  name: "web",
  isUnlocked: false,
  verdict: { kind: "failing", message, hint: "Do this." } as const,
});

t.test("everything that is well is healthy, in each part", (t) => {
  const { healthy, parts, problems, notes } = healthOf(well);
  t.same({ healthy, problems, notes }, { healthy: true, problems: [], notes: [] });
  t.same(new Set(Object.values(parts)), new Set(["ok"]));
  t.end();
});

type Row = {
  readonly what: string;
  readonly facts: Partial<HealthFacts>;
  readonly part: HealthPart;
  readonly state: Health["parts"][HealthPart];
  readonly says?: RegExp;
};

const rows: readonly Row[] = [
  {
    what: "a refused reload",
    facts: { configProblem: "config.json has 1 problem. listen: expected a port." },
    part: "configuration",
    state: "failing",
    says: /^reload refused, .*listen: expected a port/,
  },
  {
    what: "a configuration without a role",
    facts: { roles: 0, hostProblem: { message: "no instance profile", cure: "", calls: 2 } },
    part: "configuration",
    state: "ok",
    says: /^no role is configured$/,
  },
  {
    what: "an engine that is away",
    facts: { engines: [{ host: "unix:///a.sock", connected: false, lastError: "ENOENT" }] },
    part: "engine",
    state: "failing",
    says: /^engine unix:\/\/\/a.sock not connected: ENOENT$/,
  },
  {
    what: "an engine that answers with errors",
    facts: { engines: [{ host: "unix:///a.sock", connected: true, lastError: "inspecting: status 500" }] },
    part: "engine",
    state: "failing",
    says: /^engine unix:\/\/\/a.sock answers with errors: inspecting: status 500$/,
  },
  {
    what: "an unknown address that has asked",
    facts: { stranger: { address: "172.18.0.9", agoMs: 60_000 } },
    part: "containers",
    state: "ok",
    says: /^172.18.0.9 asked and was refused: no known container has this address$/,
  },
  {
    what: "a guard that is away",
    facts: { guard: { ...guard, connected: false, lastError: "it has sent nothing for 15 s" } },
    part: "guard",
    state: "failing",
    says: /^guard \/g.sock not connected: it has sent nothing for 15 s$/,
  },
  {
    what: "the firewall of a guard that is away",
    facts: { guard: { ...guard, connected: false } },
    part: "firewall",
    state: "unknown",
  },
  {
    what: "no guard",
    facts: { guard: undefined },
    part: "guard",
    state: "unknown",
    says: /^no guard is followed/,
  },
  {
    what: "the firewall without a guard",
    facts: { guard: undefined },
    part: "firewall",
    state: "unknown",
  },
  {
    what: "rules that are not in force",
    facts: firewall("not-in-force", "there are no rules of ec2metaproxy"),
    part: "firewall",
    state: "failing",
    says: /^firewall rules NOT IN FORCE, .*there are no rules/,
  },
  {
    what: "rules that cannot be checked",
    facts: firewall("check-failed", "LAYER2: expected auto or off"),
    part: "firewall",
    state: "failing",
    says: /cannot be checked: LAYER2/,
  },
  {
    what: "rules that the guard cannot read",
    facts: firewall("unknown", "the guard cannot read the rules"),
    part: "firewall",
    state: "unknown",
    says: /cannot read/,
  },
  {
    what: "a lock with troubles, under socket",
    facts: {
      guard: {
        ...guard,
        host: { firewall: { state: "in-force", since: 0, reason: "" }, lockTrouble: "nft" },
      },
    },
    part: "guard",
    state: "ok",
    says: /the port lock cannot be completed: nft/,
  },
  {
    what: "a lock with troubles, under address",
    facts: {
      identityProof: "address",
      guard: {
        ...guard,
        host: { firewall: { state: "in-force", since: 0, reason: "" }, lockTrouble: "nft" },
      },
    },
    part: "guard",
    state: "failing",
    says: /the port lock cannot be completed: nft/,
  },
  {
    what: "one role whose calls fail for ten seconds",
    facts: { credentials: { state: "normal", failure } },
    part: "sts",
    state: "failing",
    says: /^roles cannot be assumed: the connection was closed \(ECONNRESET: socket hang up\)$/,
  },
  {
    what: "one call that has failed",
    facts: { credentials: { state: "normal", failure: { ...failure, calls: 1 } } },
    part: "sts",
    state: "ok",
  },
  {
    what: "calls that fail for less than ten seconds",
    facts: { credentials: { state: "normal", failure: { ...failure, forMs: 9_999 } } },
    part: "sts",
    state: "ok",
  },
  {
    what: "STS that throttles one role",
    facts: { credentials: { state: "throttled", failure: undefined } },
    part: "sts",
    state: "failing",
    says: new RegExp(`^${failures.throttled.cause}$`),
  },
  {
    what: "a host without credentials, before a container has asked",
    facts: { hostProblem: { message: "no instance profile", cure: "Attach one.", calls: 2 } },
    part: "sts",
    state: "failing",
    says: /^roles cannot be assumed: no instance profile$/,
  },
  {
    what: "IMDS that answers 403",
    facts: metadata(2, 10_000, { status: 403 }),
    part: "metadata",
    state: "failing",
    says: /^the instance metadata service answers 403: it is turned off .* \(asking it\)$/,
  },
  {
    what: "IMDS that has failed once",
    facts: metadata(1, 20_000, {}),
    part: "metadata",
    state: "ok",
  },
  {
    what: "no IMDS, on a host with keys and a region of its own",
    facts: {
      needsMetadata: false,
      ...metadata(9, 90_000, { isLate: true }),
    },
    part: "metadata",
    state: "unknown",
    says: /^the instance metadata service does not answer in time .*do not depend on it/,
  },
  {
    what: "IMDS before anybody has asked it",
    facts: { metadata: { failure: undefined, quietMs: undefined } },
    part: "metadata",
    state: "unknown",
  },
  {
    what: "a container that is not served",
    facts: { containers: [failing("has no credentials")] },
    part: "containers",
    state: "failing",
    says: /^web: has no credentials$/,
  },
];

for (const { what, facts, part, state, says } of rows)
  t.test(`${what}: ${part} is ${state}${state === "failing" ? ", and the proxy unhealthy" : ""}`, (t) => {
    const health = healthOf({ ...well, ...facts });
    t.equal(health.parts[part], state);
    t.equal(
      health.problems.some((problem) => problem.part === part),
      state === "failing",
    );
    if (state === "failing") t.equal(health.healthy, false);
    const said = [...health.problems, ...health.notes].filter((one) => one.part === part);
    if (says !== undefined) t.match(said[0]?.message, says);
    t.end();
  });

t.test("without a guard, and with a firewall that is unknown, the proxy is healthy", (t) => {
  t.equal(healthOf({ ...well, guard: undefined }).healthy, true);
  t.equal(healthOf({ ...well, ...firewall("unknown", "not checked yet") }).healthy, true);
  t.end();
});

t.test("containers with one cause are one problem, with some names", (t) => {
  const many = Array.from({ length: 7 }, (_, index) => ({ ...failing("has none"), name: `c${index}` }));
  const { problems } = healthOf({ ...well, containers: [...many, failing("is odd")] });
  t.same(
    problems.map(({ message }) => message),
    ["c0, c1, c2, c3, c4 and 2 more: has none", "web: is odd"],
  );
  t.end();
});
