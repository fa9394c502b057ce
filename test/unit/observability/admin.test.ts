import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { OperatorError, report } from "../../../src/errors.ts";
import { adminSocketName, askAdmin } from "../../../src/observability/admin.ts";

/** A directory whose path is short enough for a socket in it. */
function folderOf(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), "admin-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** A faulty proxy: `act` is what it does with a connection. */
async function sick(t: Test, folder: string, act: (socket: Socket) => void): Promise<string> {
  const path = join(folder, adminSocketName);
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    act(socket);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return path;
}

const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
const faults: readonly [name: string, act: (socket: Socket) => void, expected: RegExp][] = [
  ["accepts and says nothing", () => undefined, /no answer within 4 s/],
  [
    "sends its answer's head and no more",
    (socket) => void socket.write(`${head}Content-Length: 5\r\n\r\n`),
    /no answer within 4 s/,
  ],
  [
    "sends a byte now and then, for ever",
    (socket) => {
      socket.write(`${head}Transfer-Encoding: chunked\r\n\r\n`);
      const timer = setInterval(() => socket.write("1\r\n \r\n"), 100);
      socket.on("close", () => clearInterval(timer));
    },
    /no answer within 4 s/,
  ],
  [
    "sends without end",
    (socket) => {
      socket.write(`${head}Transfer-Encoding: chunked\r\n\r\n`);
      const megabyte = `100000\r\n${" ".repeat(0x100000)}\r\n`;
      const more = () => {
        while (!socket.destroyed && socket.write(megabyte));
      };
      socket.on("drain", more);
      more();
    },
    /more than 67108864 bytes/,
  ],
  ["ends in the middle", (socket) => void socket.end(`${head}Content-Length: 5\r\n\r\n{`), /aborted/],
  ["sends no JSON", (socket) => void socket.end(`${head}Content-Length: 1\r\n\r\n<`), /JSON/],
  [
    "says that something is wrong",
    (socket) => void socket.end("HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n{}"),
    /the answer is HTTP 500/,
  ],
  ["closes at once", (socket) => void socket.destroy(), /hang up|ECONNRESET|EPIPE/],
];

for (const [name, act, expected] of faults) {
  t.test(`a proxy that ${name} is an error within 5 s`, async (t) => {
    const path = await sick(t, folderOf(t), act);
    const started = performance.now();
    const error: unknown = await askAdmin(path).catch((error: unknown) => error);
    t.ok(performance.now() - started < 5_000);
    if (!(error instanceof OperatorError)) throw new Error("expected an OperatorError");
    t.equal(error.exitCode, 69);
    t.match(report(error), expected);
  });
}
