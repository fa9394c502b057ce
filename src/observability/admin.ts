import { chmod, rm } from "node:fs/promises";
import { createServer, get, type Server } from "node:http";
import { exitCodes, OperatorError } from "../errors.ts";

/** The Unix socket in the runtime directory on which the running proxy reports its status. */
export const adminSocketName = "admin.sock";

/** Limit for the whole exchange, so that the command ends within 5 s, its own start included. */
const answerMs = 4_000;
/** How long a client may take for its request, or leave an answer unread. */
const clientMs = 30_000;

/**
 * Opens the admin socket. `GET /status` answers what `status()` returns, as JSON, and `GET
 * /explain?container=…` what `explain` returns. Read-only.
 */
export async function openAdmin(
  path: string,
  status: () => unknown,
  explain?: (container: string) => unknown,
): Promise<Server> {
  // bind(2) fails on a socket file that a killed process left. Nobody else writes to this directory.
  await rm(path, { force: true });
  const server = createServer((request, response) => {
    const answer = request.method === "GET" ? answerTo(request.url ?? "", status, explain) : undefined;
    const found = answer !== undefined;
    const body = found ? `${JSON.stringify(answer)}\n` : "not found\n";
    response.writeHead(found ? 200 : 404, {
      "Content-Type": found ? "application/json" : "text/plain",
      "Content-Length": Buffer.byteLength(body),
    });
    response.end(body);
  });
  server.requestTimeout = clientMs;
  server.setTimeout(clientMs);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  });
  // Only root and the service's group may read the names of containers.
  await chmod(path, 0o660);
  return server;
}

/** Undefined where there is no such thing. */
function answerTo(
  target: string,
  status: () => unknown,
  explain: ((container: string) => unknown) | undefined,
): unknown {
  if (target === "/status") return status();
  const [path, query] = target.split("?", 2);
  const container = new URLSearchParams(query).get("container");
  return path === explainPath && container !== null ? explain?.(container) : undefined;
}

const explainPath = "/explain";

/** What to ask the admin socket for, to have a container explained. */
export function explainTarget(container: string): string {
  return `${explainPath}?${new URLSearchParams({ container })}`;
}

/** About 100,000 containers. A longer answer is not from our proxy. */
const answerBytes = 64 * 1024 * 1024;

/**
 * Asks a running proxy.
 * @param timeoutMs for connecting, sending and reading together
 * @param target by default its status
 * @throws OperatorError 69 where there is no answer, or not a valid one
 */
export function askAdmin(path: string, timeoutMs = answerMs, target = "/status"): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const request = get({ socketPath: path, path: target, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > answerBytes) failed(new Error(`the answer has more than ${answerBytes} bytes`));
        else chunks.push(chunk);
      });
      response.on("error", failed);
      response.on("end", () => {
        clearTimeout(timer);
        try {
          if (response.statusCode !== 200) throw new Error(`the answer is HTTP ${response.statusCode}`);
          resolve(JSON.parse(Buffer.concat(chunks).toString("utf8")));
        } catch (error) {
          failed(error);
        }
      });
    });
    const failed = (cause: unknown) => {
      clearTimeout(timer);
      reject(
        new OperatorError(`asking the proxy on ${path}`, {
          exitCode: exitCodes.unavailable,
          hint: hintFor(cause),
          cause,
        }),
      );
      request.destroy();
    };
    // One timer for everything: a socket's own timeout restarts with each byte, and a sick process may
    // trickle them.
    const timer = setTimeout(() => failed(new Error(`no answer within ${timeoutMs / 1000} s`)), timeoutMs);
    request.on("error", failed);
  });
}

function hintFor(cause: unknown): string {
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  if (code === "EACCES") return "Run it as root, or as a user in the group ec2metaproxy.";
  if (code === "ENOENT" || code === "ECONNREFUSED") return "Is it running? systemctl status ec2metaproxy";
  return "journalctl -u ec2metaproxy shows what it is doing.";
}
