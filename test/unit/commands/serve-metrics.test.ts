import { once } from "node:events";
import { readFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import t from "tap";
import { metricsOf } from "../../../src/commands/serve-metrics.ts";
import { type StatusFacts, statusOf } from "../../../src/commands/serve-status.ts";
import { configSchema } from "../../../src/config/schema.ts";
import { staticContainer } from "../../../src/containers/container.ts";
import { Callers } from "../../../src/imds/callers.ts";
import { metricsServer } from "../../../src/observability/metrics.ts";
import { rolePolicy } from "../../../src/roles/grant.ts";
import { engineContainer } from "../imds/fixture.ts";

const engine = (host: string, connected: boolean) => ({
  host,
  connected,
  since: 0,
  lastError: undefined,
  apiVersion: undefined,
  engine: undefined,
  containers: 0,
});

const status = (facts: Partial<StatusFacts> = {}) =>
  statusOf({
    uptimeSeconds: 60,
    listening: "127.0.0.1:18000",
    configPath: "config.json",
    configProblem: "listen: expected a port",
    identityProof: "socket",
    guard: {
      path: "/run/ec2metaproxy-guard/containers.sock",
      state: () => ({
        connected: true,
        since: 0,
        lastError: undefined,
        version: "1.1.0",
        engines: [],
      }),
      locks: {
        protectionOf: (id) => ({ locked: id === "a", reason: id === "a" ? "" : "no port" }),
        news: async () => false,
      },
    },
    engines: [engine("unix:///a.sock", true), engine('unix:///"b\n".sock', false)],
    credentials: {
      state: "throttled",
      callsPerSecond: 5,
      entries: 3,
      warm: 1,
      refused: 1,
      cold: 1,
      failing: 1,
      waiting: 2,
      queued: 1,
      inFlight: 1,
      stalled: 0,
      calls: { ok: 7, refused: 1, throttled: 2, temporary: 0 },
      joined: 4,
      smallestRemainingMs: 90_500,
      lastCallMs: 50,
      spentMs: 1_500,
      problems: [],
    },
    requests: { granted: 9, refused: 3 },
    containers: ["a", "b", "c"].map((id) => engineContainer(id, "127.0.0.20", { id })),
    callers: new Callers(rolePolicy(configSchema.parse({})), undefined),
    roles: 1,
    ...facts,
  });

const metrics = metricsOf(
  () => status(),
  () => new Map([["unknown-caller", 3]]),
);

t.test("Prometheus reads the same values at each scrape", async (t) => {
  const server = metricsServer(metrics);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => server.close());
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`; // an object for a TCP server
  for (const round of ["first", "second"]) {
    const text = await (await fetch(`${base}/metrics`)).text();
    for (const line of [
      "# TYPE ec2metaproxy_grants_total counter",
      "ec2metaproxy_grants_total 9",
      'ec2metaproxy_refusals_total{code="unknown-caller"} 3',
      'ec2metaproxy_sts_calls_total{outcome="throttled"} 2',
      "ec2metaproxy_sts_call_seconds_total 1.5",
      "# TYPE ec2metaproxy_sts_healthy gauge",
      "ec2metaproxy_sts_healthy 0",
      "ec2metaproxy_credentials_first_expiry_seconds 90.5",
      "ec2metaproxy_config_valid 0",
      "ec2metaproxy_guard_connected 1",
      "ec2metaproxy_containers_locked 1",
      "ec2metaproxy_containers_unlocked 2",
      'ec2metaproxy_engine_connected{host="unix:///a.sock"} 1',
      'ec2metaproxy_engine_connected{host="unix:///\\"b\\\\u{a}\\".sock"} 0',
    ])
      t.ok(text.split("\n").includes(line), `${line}, at the ${round} time`);
  }
});

t.test("docs/metrics.md lists every metric with its labels", async (t) => {
  const page = await readFile(new URL("../../../docs/metrics.md", import.meta.url), "utf8");
  const rows = [...page.matchAll(/^\| `(ec2metaproxy_\w+)(?:\{(\w+)\})?` \| (counter|gauge) \| (.*) \|$/gm)];
  t.strictSame(
    rows.map(([, name, label = "", kind, help]) => ({ name, label, kind, help })),
    metrics.map(({ name, labels = [], help }) => ({
      name,
      label: labels.join(),
      kind: name.endsWith("_total") ? "counter" : "gauge",
      help,
    })),
  );
});

t.test("without a guard there are no metrics of one, so that nobody is alerted to its absence", (t) => {
  const names = metricsOf(
    () => status({ guard: undefined }),
    () => new Map(),
  ).map(({ name }) => name);
  t.same(
    names.filter((name) => /guard|locked/.test(name)),
    [],
  );
  t.ok(names.length > 10);
  t.end();
});

const healthy: Partial<StatusFacts> = {
  configProblem: undefined,
  engines: [engine("unix:///a.sock", true)],
  credentials: { ...status().credentials, state: "normal", refused: 0 },
};
const known = status().guard;

for (const { what, facts, isHealthy, summary } of [
  {
    what: "containers without a lock, under socket",
    facts: {},
    isHealthy: true,
    summary: /^Serving 3 containers, 0 with a role; unix:\/\/\/a.sock; 2 containers not locked$/,
  },
  {
    what: "containers without a lock, under address",
    facts: { identityProof: "address" },
    isHealthy: false,
    summary: /2 containers not locked and therefore refused$/,
  },
  {
    what: "no guard",
    facts: { guard: undefined },
    isHealthy: true,
    summary: /; unix:\/\/\/a.sock$/,
  },
  {
    what: "a guard that is away",
    facts: {
      engines: [engine("unix:///a.sock", false)],
      guard: {
        path: "/g.sock",
        state: () => ({
          connected: false,
          since: 0,
          lastError: "it has sent nothing for 15 s",
          version: undefined,
          engines: [],
        }),
        locks: { protectionOf: () => ({ locked: true, reason: "" }), news: async () => false },
      },
    },
    isHealthy: false,
    summary:
      /^Serving 3 containers, 0 with a role; guard \/g.sock not connected: it has sent nothing for 15 s$/,
  },
] satisfies readonly {
  what: string;
  facts: Partial<StatusFacts>;
  isHealthy: boolean;
  summary: RegExp;
}[])
  t.test(`the status with ${what} is ${isHealthy ? "healthy" : "unhealthy"} and says so in a line`, (t) => {
    const now = status({ ...healthy, ...facts });
    t.equal(now.healthy, isHealthy);
    t.match(now.summary, summary);
    t.end();
  });

t.test("what has no address of an engine's has no protection in the status", (t) => {
  const containers = [
    staticContainer("127.0.0.9", { name: "vm" }),
    engineContainer("d", "", { attachments: [], risks: ["host-network"] }),
  ];
  t.same(
    status({ containers }).containers.map(({ protection }) => protection),
    [undefined, undefined],
  );
  t.match(known, { connected: true, version: "1.1.0" });
  t.end();
});
