import { createServer } from "node:net";
import t, { type Test } from "tap";
import { listen } from "../../../src/commands/listen.ts";

/** A server that the test closes. */
function serverOf(t: Test) {
  const server = createServer();
  t.teardown(() => void server.close());
  return server;
}

/** A port that is free at the moment. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number }; // an object for a TCP server
  await new Promise((resolve) => server.close(resolve));
  return port;
}

t.test("a server listens on the configured address", async (t) => {
  const address = `127.0.0.1:${await freePort()}`;
  t.equal(await listen(serverOf(t), address, []), address);
});

t.test("a port that is in use is an error that says how to find its owner", async (t) => {
  const port = await freePort();
  await listen(serverOf(t), `127.0.0.1:${port}`, []);
  await t.rejects(listen(serverOf(t), `127.0.0.1:${port}`, []), {
    message: `listening on 127.0.0.1:${port}`,
    exitCode: 69,
    hint: `sport = :${port}`,
  });
});

t.test("two sockets from systemd are refused: nobody would accept on the second", async (t) => {
  await t.rejects(listen(serverOf(t), ":18000", [{ fd: 3 }, { fd: 4 }]), {
    message: /2 were passed, only one is served/,
    exitCode: 78,
  });
});

t.test("an address that is none is refused", async (t) => {
  await t.rejects(listen(serverOf(t), "nonsense", []), { message: /nonsense/, exitCode: 78 });
});
