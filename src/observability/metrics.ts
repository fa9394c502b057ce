import { createServer, type Server } from "node:http";
import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";
import { printable } from "../text.ts";

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

/** Serves `GET /metrics` in Prometheus's text format: `metrics`, and prom-client's metrics of the process. */
export function metricsServer(metrics: readonly Metric[]): Server {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  for (const { name, help, labels = [], read } of metrics) {
    // `rate()` needs a counter.
    const Kind = name.endsWith("_total") ? Counter : Gauge;
    new Kind({
      name,
      help,
      labelNames: [...labels],
      registers: [registry],
      collect() {
        this.reset();
        for (const sample of read()) this.inc(escaped(sample.labels ?? {}), sample.value);
      },
    });
  }
  const server = createServer({ headersTimeout: 5_000, requestTimeout: 5_000 }, (request, response) => {
    if (request.method !== "GET" || request.url?.split("?", 1)[0] !== "/metrics") {
      response.writeHead(404, { "Content-Type": "text/plain" }).end("the metrics are at /metrics\n");
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
 * Terminals and dashboards show label values. The text format itself escapes only quotes, backslashes and
 * line feeds.
 */
function escaped(labels: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).map(([name, value]) => [name, printable(value)]));
}
