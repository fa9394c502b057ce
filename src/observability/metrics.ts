import { createServer, type Server } from "node:http";
import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";
import { printable } from "../text.ts";

/** A figure with its labels, as of now. */
export type Sample = { readonly labels?: Readonly<Record<string, string>>; readonly value: number };

/** One metric: asked when Prometheus asks, so nothing is counted twice. `total` in the name marks what only grows. */
export type Metric = {
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly string[];
  readonly read: () => readonly Sample[];
};

/** `GET /metrics` in the text format of Prometheus. The figures are the callers'; the process's own come from prom-client. */
export function metricsServer(metrics: readonly Metric[]): Server {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  for (const { name, help, labels = [], read } of metrics) {
    // What only grows is a counter by the rules of Prometheus, and `rate()` needs it to be one.
    const Kind = name.endsWith("_total") ? Counter : Gauge;
    new Kind({
      name,
      help,
      labelNames: [...labels],
      registers: [registry],
      collect() {
        this.reset();
        for (const { labels: of = {}, value } of read()) this.inc(labelsOf(of), value);
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
  // Where the address lets containers in, they must not take descriptors that others need.
  server.maxConnections = 16;
  return server;
}

/** Label values are shown in terminals and dashboards; the text format itself escapes only quotes, backslashes and line feeds. */
function labelsOf(labels: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).map(([name, value]) => [name, printable(value)]));
}
