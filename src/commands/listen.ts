import type { Server } from "node:net";
import { parseHostPort } from "../config/values.ts";
import { exitCodes, OperatorError } from "../errors.ts";

/**
 * Connections that may wait while the process is busy or being replaced. The same as Backlog= of the socket
 * unit: listen(2) on a socket that already listens changes its backlog.
 */
const backlog = 4_096;

/**
 * Listens on the socket that systemd passed, or opens one on `address`. Resolves to the address, as text.
 * @throws OperatorError 78 where the socket's port is not the configured one, to which the firewall redirects
 */
export async function listen(
  server: Server,
  address: string,
  inherited: readonly { readonly fd: number }[],
): Promise<string> {
  const wanted = parseHostPort(address);
  if (wanted === undefined)
    throw new OperatorError(`listen: cannot use "${address}"`, { exitCode: exitCodes.configuration });
  const [socket, ...more] = inherited;
  if (more.length > 0) {
    // Clients of a socket that nobody accepts on would hang until they time out.
    throw new OperatorError(
      `taking the sockets from systemd: ${inherited.length} were passed, only one is served`,
      {
        exitCode: exitCodes.configuration,
        hint: "Keep one ListenStream= in ec2metaproxy.socket (an empty ListenStream= before yours removes the packaged one).",
      },
    );
  }
  const where =
    socket !== undefined
      ? { fd: socket.fd }
      : { port: wanted.port, ...(wanted.host === undefined ? {} : { host: wanted.host }) };
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) =>
      reject(
        new OperatorError(`listening on ${socket === undefined ? address : `fd ${socket.fd} from systemd`}`, {
          exitCode: exitCodes.unavailable,
          hint:
            cause.code === "EADDRINUSE"
              ? `Another process has the port: ss -ltnp 'sport = :${wanted.port}'`
              : "",
          cause,
        }),
      ),
    );
    // An argument, not an option: Node ignores the option `backlog` beside `fd`, and would set its default of
    // 511.
    server.listen(where, backlog, resolve);
  });
  const bound = server.address();
  if (bound === null || typeof bound === "string") {
    throw new OperatorError(`listening on ${address}: the socket from systemd is not a TCP socket`, {
      exitCode: exitCodes.configuration,
      hint: "ListenStream= of ec2metaproxy.socket must be a port.",
    });
  }
  if (bound.port !== wanted.port) {
    server.close();
    throw new OperatorError(
      `listen: config.json says port ${wanted.port}, ec2metaproxy.socket listens on ${bound.port}`,
      {
        exitCode: exitCodes.configuration,
        hint: `Make them agree: "listen": ":${bound.port}" in config.json, or ListenStream=${wanted.port} in a drop-in (systemctl edit ec2metaproxy.socket).`,
      },
    );
  }
  const host = bound.family === "IPv6" ? `[${bound.address}]` : bound.address;
  return `${host}:${bound.port}${socket === undefined ? "" : " (from systemd)"}`;
}
