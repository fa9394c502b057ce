import { once } from "node:events";
import { createServer, type RequestListener, type ServerOptions } from "node:http";

/** An address to listen on: an IP address without brackets, and a port, 0 for any free port. */
export type Address = { readonly host: string; readonly port: number };

export const anyLoopbackPort: Address = { host: "127.0.0.1", port: 0 };

export type Listening = {
  /** `http://127.0.0.1:4567`, one for each address, in the same order. */
  readonly urls: readonly string[];
  /** Stops listening and closes every connection, so that hanging requests end too. */
  close(): Promise<void>;
};

/** Serves one handler on one or more addresses. If one of them is not available, none is kept. */
export async function listenOn(
  addresses: readonly Address[],
  options: ServerOptions,
  handler: RequestListener,
): Promise<Listening> {
  const servers = addresses.map(() => createServer(options, handler));
  const close = async () => {
    const open = servers.filter((server) => server.listening);
    await Promise.all(
      open.map(async (server) => {
        const closed = once(server, "close");
        server.close();
        server.closeAllConnections();
        await closed;
      }),
    );
  };
  const urls: string[] = [];
  try {
    for (const [index, server] of servers.entries()) {
      const { host, port } = addresses[index] ?? anyLoopbackPort;
      server.listen({ host, port });
      await once(server, "listening");
      const bound = server.address();
      const boundPort = typeof bound === "object" && bound !== null ? bound.port : port;
      urls.push(
        `http://${host.includes(":") ? `[${host}]` : host}${boundPort === 80 ? "" : `:${boundPort}`}`,
      );
    }
  } catch (cause) {
    await close();
    throw new Error(`listening for the AWS stand-in on ${addresses.map(addressText).join(", ")}`, { cause });
  }
  return { urls, close };
}

/** `127.0.0.1:8080` or `[::1]:8080`. */
export function parseAddress(text: string): Address {
  const match = /^(?:\[([0-9a-f:.]+)\]|([\d.]+)):(\d{1,5})$/i.exec(text);
  const host = match?.[1] ?? match?.[2];
  if (host === undefined)
    throw new Error(`reading the address ${text}: expected 127.0.0.1:8080 or [::1]:8080`);
  return { host, port: Number(match?.[3]) };
}

function addressText({ host, port }: Address): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
