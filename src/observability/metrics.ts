import { createServer, type Server } from "node:http";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { printable } from "../text.ts";
import type { Durations } from "./durations.ts";
import type { Health } from "./health.ts";

/** The current value for a set of labels. */
export type Sample = { readonly labels?: Readonly<Record<string, string>>; readonly value: number };

/**
 * One metric, read at each scrape, so that nothing is counted twice. `_total` at the end of the name makes it
 * a counter.
 */
export type Metric = {
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly string[];
  readonly read: () => readonly Sample[];
};

/**
 * Gauges with the ending of a counter, which `promtool check metrics` reports. The sum of the metric without
 * the ending is the same.
 */
const misnamed = [
  "nodejs_active_handles_total",
  "nodejs_active_requests_total",
  "nodejs_active_resources_total",
];

/** Durations in seconds, with one set of labels each. */
export type HistogramMetric = Pick<Metric, "name" | "help"> & {
  readonly labels: readonly string[];
  readonly histograms: () => readonly {
    readonly labels: Readonly<Record<string, string>>;
    readonly durations: Durations;
  }[];
};

/**
 * Serves `GET /metrics` in Prometheus's text format: `metrics`, and prom-client's metrics of the process. And
 * `GET /healthz`: 200 or 503, without names, because containers may be able to read it.
 */
export function metricsServer(
  metrics: readonly (Metric | HistogramMetric)[],
  health: () => Pick<Health, "healthy" | "parts">,
): Server {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  for (const name of misnamed) registry.removeSingleMetric(name);
  for (const metric of metrics) {
    if ("histograms" in metric) {
      register(registry, metric);
      continue;
    }
    const { name, help, labels = [], read } = metric;
    // `rate()` needs a counter.
    const Kind = name.endsWith("_total") ? Counter : Gauge;
    new Kind({
      name,
      help,
      labelNames: [...labels],
      registers: [registry],
      collect() {
        this.reset();
        const samples = read();
        // What is not known is absent, and not 0.
        if (samples.length === 0 && labels.length === 0) this.remove();
        for (const sample of samples) this.inc(escaped(sample.labels ?? {}), sample.value);
      },
    });
  }
  const server = createServer({ headersTimeout: 5_000, requestTimeout: 5_000 }, (request, response) => {
    const path = request.method === "GET" ? request.url?.split("?", 1)[0] : undefined;
    if (path === "/healthz") {
      const { healthy, parts } = health();
      response.writeHead(healthy ? 200 : 503, { "Content-Type": "application/json" });
      response.end(`${JSON.stringify({ healthy, parts })}\n`);
      return;
    }
    if (path !== "/metrics") {
      response
        .writeHead(404, { "Content-Type": "text/plain" })
        .end("the metrics are at /metrics, the health at /healthz\n");
      return;
    }
    registry.metrics().then(
      (text) => response.writeHead(200, { "Content-Type": registry.contentType }).end(text),
      (error: unknown) => response.writeHead(500, { "Content-Type": "text/plain" }).end(`${String(error)}\n`),
    );
  });
  // Containers may be able to reach this address. They must not use up the descriptors.
  server.maxConnections = 16;
  return server;
}

/**
 * Reads the counts at each scrape, as the other metrics do. prom-client's own `observe` is slower than the
 * requests that it would measure.
 */
function register(registry: Registry, { name, help, labels, histograms }: HistogramMetric): void {
  class Read extends Histogram {
    /** What the registry prints. */
    getForPromString() {
      const values = histograms().flatMap(({ labels: own, durations }) => {
        const { buckets, count, sumSeconds } = durations.snapshot();
        const value = (suffix: string, number: number, more = {}) => ({
          metricName: `${name}_${suffix}`,
          labels: { ...own, ...more },
          value: number,
        });
        return [
          ...buckets.map(({ le, count: below }) => value("bucket", below, { le: String(le) })),
          value("bucket", count, { le: "+Inf" }),
          value("sum", sumSeconds),
          value("count", count),
        ];
      });
      return { name, help, type: "histogram", values };
    }
  }
  new Read({ name, help, labelNames: [...labels], registers: [registry] });
}

/**
 * Terminals and dashboards show label values. The text format itself escapes only quotes, backslashes and
 * line feeds.
 */
function escaped(labels: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).map(([name, value]) => [name, printable(value)]));
}
