import { createServer } from "node:http";
import { createServer as createTcp } from "node:net";
import t from "tap";
import { carryOut, parseOrder } from "../../../src/firewall/probe-client.ts";

async function listening(server: {
  listen: (port: number, host: string, done: () => void) => unknown;
  address: () => unknown;
}) {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (typeof address !== "object" || address === null || !("port" in address)) throw new Error("no port");
  return Number(address.port);
}

t.test("an answer is told with its status and server", async (t) => {
  const server = createServer((_, response) => response.writeHead(403, { Server: "EC2ws" }).end());
  t.teardown(() => server.close());
  const port = await listening(server);
  const order = { do: "get", address: "127.0.0.1", port, timeoutMs: 5_000 } as const;
  t.same(await carryOut(order), { kind: "answered", status: 403, server: "EC2ws" });
});

t.test("a connection that is never answered is told from one that is not made", async (t) => {
  const silent = createTcp(() => undefined);
  t.teardown(() => silent.close());
  const order = { do: "get", address: "127.0.0.1", port: await listening(silent), timeoutMs: 200 } as const;
  t.same(await carryOut(order), { kind: "failed", connected: true, code: "ETIMEDOUT" });
  const free = createTcp();
  const port = await listening(free);
  await new Promise((resolve) => free.close(resolve));
  t.match(await carryOut({ ...order, port }), { kind: "failed", connected: false, code: "ECONNREFUSED" });
});

t.test("asking for addresses sends something to each and waits for no answer", async (t) => {
  t.same(await carryOut({ do: "arp", addresses: ["127.0.0.1", "127.0.0.2"] }), { kind: "asked" });
});

for (const text of ["{}", "null", '{"do":"get"}', '{"do":"arp","addresses":[1]}', '{"do":"rm"}'])
  t.test(`${text} is no order`, (t) => {
    t.throws(() => parseOrder(text), /expected an order/);
    t.end();
  });

t.test("an order survives being written as JSON", (t) => {
  for (const order of [
    { do: "arp", addresses: ["172.17.0.1"] },
    { do: "get", address: "fd00:ec2::254", port: 80, timeoutMs: 1_000 },
  ] as const)
    t.same(parseOrder(JSON.stringify(order)), order);
  t.end();
});
