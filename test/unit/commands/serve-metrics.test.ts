import { once } from "node:events";
import { readFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import t from "tap";
import { metricsOf } from "../../../src/commands/serve-metrics.ts";
import { statusOf } from "../../../src/commands/serve-status.ts";
import { metricsServer } from "../../../src/observability/metrics.ts";

const engine = (host: string, connected: boolean) => ({
  host,
  connected,
  since: 0,
  lastError: undefined,
  apiVersion: undefined,
  engine: undefined,
  containers: 0,
});

const status = () =>
  statusOf({
    uptimeSeconds: 60,
    listening: "127.0.0.1:18000",
    configPath: "config.json",
    configProblem: "listen: expected a port",
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
    },
    requests: { granted: 9, refused: 3 },
    containers: [],
    callers: {
      of: () => {
        throw new Error("there are no containers");
      },
    },
    roles: 1,
  });

const metrics = metricsOf(status, () => new Map([["unknown-caller", 3]]));

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
