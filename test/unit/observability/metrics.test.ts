import { once } from "node:events";
import type { AddressInfo } from "node:net";
import t, { type Test } from "tap";
import { Durations } from "../../../src/observability/durations.ts";
import type { Health } from "../../../src/observability/health.ts";
import { type HistogramMetric, type Metric, metricsServer } from "../../../src/observability/metrics.ts";
import { hostileTexts, unsafe } from "../../support/hostile-texts.ts";

const parts = {
  configuration: "ok",
  containers: "ok",
  engine: "ok",
  firewall: "unknown",
  guard: "unknown",
  metadata: "ok",
  sts: "ok",
} as const;
let health: Pick<Health, "healthy" | "parts"> = { healthy: true, parts };

/** Serves the metrics until the test ends. Resolves to the server's URL. */
async function serve(t: Test, ...metrics: readonly (Metric | HistogramMetric)[]): Promise<string> {
  const server = metricsServer(metrics, () => health);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`; // an object for a TCP server
}

t.test("a metric is read at each scrape, and a counter is not added up", async (t) => {
  let value = 3;
  const url = await serve(
    t,
    { name: "calls_total", help: "Calls.", read: () => [{ value }] },
    { name: "waiting", help: "Waiting.", read: () => [{ value }] },
  );
  for (const expected of [3, 5]) {
    value = expected;
    const text = await (await fetch(`${url}/metrics`)).text();
    t.match(text, `# TYPE calls_total counter\ncalls_total ${expected}\n`);
    t.match(text, `# TYPE waiting gauge\nwaiting ${expected}\n`);
    t.match(text, /^process_resident_memory_bytes \d/m, "the metrics of the process are included");
  }
});

for (const hostile of hostileTexts) {
  t.test(`a label's value is escaped: ${hostile.replace(/[^ -~]/g, "?")}`, async (t) => {
    const read = () => [{ labels: { host: hostile }, value: 1 }];
    const url = await serve(t, { name: "up", help: "Up.", labels: ["host"], read });
    t.notMatch(await (await fetch(`${url}/metrics`)).text(), unsafe);
  });
}

for (const [method, path] of [
  ["POST", "/metrics"],
  ["GET", "/"],
] as const) {
  t.test(`${method} ${path} is 404`, async (t) => {
    const url = await serve(t);
    t.equal((await fetch(`${url}${path}`, { method })).status, 404);
  });
}

t.test("/healthz is 200 or 503 with the state of each part, and no names", async (t) => {
  const url = await serve(t);
  const healthy = await fetch(`${url}/healthz`);
  t.equal(healthy.status, 200);
  t.same(await healthy.json(), { healthy: true, parts });
  health = { healthy: false, parts: { ...parts, sts: "failing" } };
  const sick = await fetch(`${url}/healthz`);
  t.equal(sick.status, 503);
  t.match(await sick.json(), { healthy: false, parts: { sts: "failing" } });
});

t.test("a gauge of which nothing is known is absent, and not 0", async (t) => {
  const url = await serve(t, { name: "in_force", help: "Rules.", read: () => [] });
  t.notMatch(await (await fetch(`${url}/metrics`)).text(), /^in_force /m);
});

t.test("a histogram is cumulative, with a sum and a count, and is not added up", async (t) => {
  const durations = new Durations([0.1, 1]);
  for (const ms of [50, 100, 500, 3_000]) durations.note(ms);
  const url = await serve(t, {
    name: "calls_duration_seconds",
    help: "Calls.",
    labels: ["outcome"],
    histograms: () => [{ labels: { outcome: "ok" }, durations }],
  });
  for (const round of ["first", "second"]) {
    const lines = (await (await fetch(`${url}/metrics`)).text()).split("\n");
    for (const line of [
      "# TYPE calls_duration_seconds histogram",
      'calls_duration_seconds_bucket{outcome="ok",le="0.1"} 2',
      'calls_duration_seconds_bucket{outcome="ok",le="1"} 3',
      'calls_duration_seconds_bucket{outcome="ok",le="+Inf"} 4',
      'calls_duration_seconds_sum{outcome="ok"} 3.65',
      'calls_duration_seconds_count{outcome="ok"} 4',
    ])
      t.ok(lines.includes(line), `${line}, at the ${round} time`);
  }
});

t.test("no gauge ends like a counter, which promtool reports", async (t) => {
  const text = await (await fetch(`${await serve(t)}/metrics`)).text();
  t.same(
    [...text.matchAll(/^# TYPE (\S+_total) (?!counter)/gm)].map(([, name]) => name),
    [],
  );
});
