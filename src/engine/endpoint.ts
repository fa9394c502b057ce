import { exitCodes, OperatorError } from "../errors.ts";

/** Where an engine's API is. */
export type Endpoint =
  | { readonly kind: "unix"; readonly socketPath: string }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number; readonly tls: boolean };

/**
 * Reads `dockerHost` in the forms that the Docker CLI takes: `unix:///path`, `/path`, `tcp://host:port`, `http://`, `https://`.
 * `tcp://` means TLS where TLS files are configured; the ports are Docker's own, 2375 and 2376, where none is written.
 */
export function parseDockerHost(text: string, hasTlsFiles: boolean): Endpoint {
  if (text.startsWith("/")) return unix(text, text);
  if (text.startsWith("unix://")) return unix(text.slice("unix://".length), text);
  const scheme = /^([a-z]+):\/\//.exec(text)?.[1] ?? "tcp";
  if (scheme !== "tcp" && scheme !== "http" && scheme !== "https")
    throw unusable(text, `${scheme}:// is not supported`);
  // `tcp:` is no scheme that URL gives a host and a port for.
  const url = URL.parse(`http://${text.replace(/^[a-z]+:\/\//, "")}`);
  if (url === null || url.hostname === "") throw unusable(text, "there is no host in it");
  if ((url.pathname !== "/" && url.pathname !== "") || url.search !== "" || url.username !== "") {
    throw unusable(text, "more than a host and a port is written there");
  }
  const tls = scheme === "https" || (scheme === "tcp" && hasTlsFiles);
  // URL drops a port 80 that was written, because it is http's default.
  const written = /:(\d+)\/?$/.exec(text)?.[1];
  const port = written === undefined ? (tls ? 2376 : 2375) : Number(written);
  return { kind: "tcp", host: url.hostname.replace(/^\[|\]$/g, ""), port, tls };
}

function unix(socketPath: string, text: string): Endpoint {
  if (!socketPath.startsWith("/")) throw unusable(text, "the socket's path is not absolute");
  // sockaddr_un.sun_path: 108 bytes with the NUL that ends it.
  if (Buffer.byteLength(socketPath) > 107) throw unusable(text, "a socket's path has at most 107 bytes");
  return { kind: "unix", socketPath };
}

function unusable(text: string, why: string): OperatorError {
  return new OperatorError(`dockerHost: cannot use ${JSON.stringify(text)}: ${why}`, {
    exitCode: exitCodes.configuration,
    hint: "Write unix:///var/run/docker.sock, unix:///run/podman/podman.sock or tcp://host:2376.",
  });
}
