import { chmod, rm } from "node:fs/promises";
import { createServer, get, type Server } from "node:http";
import { exitCodes, OperatorError } from "../errors.ts";

/** The unix socket, below the runtime directory, on which the running proxy tells about itself. */
export const adminSocketName = "admin.sock";

/** Opens the admin socket. `GET /status` answers what `status()` returns, as JSON; nothing here can change anything. */
export async function openAdmin(path: string, status: () => unknown): Promise<Server> {
  // A socket file left by a process that was killed would make bind fail; nobody else writes into this directory.
  await rm(path, { force: true });
  const server = createServer((request, response) => {
    const found = request.method === "GET" && request.url === "/status";
    const body = found ? `${JSON.stringify(status())}\n` : "not found\n";
    response.writeHead(found ? 200 : 404, {
      "Content-Type": found ? "application/json" : "text/plain",
      "Content-Length": Buffer.byteLength(body),
    });
    response.end(body);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  });
  // The container names in it are nobody's business but root's and the service's group's.
  await chmod(path, 0o660);
  return server;
}

/**
 * Asks a running proxy.
 * @throws OperatorError with exit code 69 where none answers.
 */
export function askAdmin(path: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const failed = (cause: unknown) =>
      reject(
        new OperatorError(`asking the proxy on ${path}`, {
          exitCode: exitCodes.unavailable,
          hint: hintFor(cause),
          cause,
        }),
      );
    const request = get({ socketPath: path, path: "/status", timeout: 5_000 }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", failed);
      response.on("end", () => {
        try {
          resolve(JSON.parse(Buffer.concat(chunks).toString("utf8")));
        } catch (error) {
          failed(error);
        }
      });
    });
    request.on("error", failed);
    request.on("timeout", () => request.destroy(new Error("no answer within 5 s")));
  });
}

function hintFor(cause: unknown): string {
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  if (code === "EACCES") return "Run it as root, or as a user in the group ec2metaproxy.";
  if (code === "ENOENT" || code === "ECONNREFUSED") return "Is it running? systemctl status ec2metaproxy";
  return "journalctl -u ec2metaproxy shows what it does.";
}
