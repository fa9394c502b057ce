import { once } from "node:events";
import type { AddressInfo } from "node:net";
import t, { type Test } from "tap";
import { type Metric, metricsServer } from "../../../src/observability/metrics.ts";
import { hostileTexts, unsafe } from "../../support/hostile-texts.ts";

/** Serves the metrics until the test ends. Resolves to the server's URL. */
async function serve(t: Test, ...metrics: readonly Metric[]): Promise<string> {
  const server = metricsServer(metrics);
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
