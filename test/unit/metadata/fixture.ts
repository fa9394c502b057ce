import { once } from "node:events";
import http, { type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Test } from "tap";

export type Answer = (req: IncomingMessage, res: ServerResponse) => void;

/**
 * A metadata service on loopback with answers for token requests and for everything else. Ends with the test.
 */
export async function metadataService(
  t: Test,
  options: { readonly token?: Answer; readonly page?: Answer; readonly server?: http.Server } = {},
) {
  const requests: string[] = [];
  const sockets = new Set<Socket>();
  const server = options.server ?? http.createServer();
  server.on("connection", (socket) => sockets.add(socket));
  server.on("request", (req: IncomingMessage, res: ServerResponse) => {
    requests.push(`${req.method} ${req.url}`);
    const answer = req.method === "PUT" ? options.token : options.page;
    if (answer === undefined) res.end(req.method === "PUT" ? "token" : "page");
    else answer(req, res);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo; // a TCP server's address is never a string
  return { requests, sockets, port, endpoint: `http://127.0.0.1:${port}` };
}
