import { exitCodes, OperatorError } from "../errors.ts";

/** Where an engine's API listens. */
export type Endpoint =
  | { readonly kind: "unix"; readonly socketPath: string }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number; readonly tls: boolean };

/**
 * Parses `dockerHost` in the forms that the Docker CLI accepts: `unix:///path`, `/path`, `tcp://host:port`,
 * `http://`, `https://`. `tcp://` means TLS if TLS files are configured. The default ports are Docker's:
 * 2375, and 2376 with TLS.
 * @throws OperatorError if the text has none of these forms.
 */
export function parseDockerHost(text: string, hasTlsFiles: boolean): Endpoint {
  if (text.startsWith("/")) return unix(text, text);
  if (text.startsWith("unix://")) return unix(text.slice("unix://".length), text);
  const scheme = /^([a-z]+):\/\//.exec(text)?.[1] ?? "tcp";
  if (scheme !== "tcp" && scheme !== "http" && scheme !== "https")
    throw unusable(text, `${scheme}:// is not supported`);
  // Parsed as http, because URL knows no host and port in a `tcp:` URL.
  const url = URL.parse(`http://${text.replace(/^[a-z]+:\/\//, "")}`);
  if (url === null || url.hostname === "") throw unusable(text, "it has no host");
  if ((url.pathname !== "/" && url.pathname !== "") || url.search !== "" || url.username !== "") {
    throw unusable(text, "it has more than a host and a port");
  }
  const tls = scheme === "https" || (scheme === "tcp" && hasTlsFiles);
  // Not url.port: URL drops port 80, because that is http's default.
  const written = /:(\d+)\/?$/.exec(text)?.[1];
  const port = written === undefined ? (tls ? 2376 : 2375) : Number(written);
  return { kind: "tcp", host: url.hostname.replace(/^\[|\]$/g, ""), port, tls };
}

function unix(socketPath: string, text: string): Endpoint {
  if (!socketPath.startsWith("/")) throw unusable(text, "the socket path is not absolute");
  // sockaddr_un.sun_path has 108 bytes, including the terminating NUL.
  if (Buffer.byteLength(socketPath) > 107) throw unusable(text, "a socket path has at most 107 bytes");
  return { kind: "unix", socketPath };
}

function unusable(text: string, why: string): OperatorError {
  return new OperatorError(`dockerHost: cannot use ${JSON.stringify(text)}: ${why}`, {
    exitCode: exitCodes.configuration,
    hint: "Write unix:///var/run/docker.sock, unix:///run/podman/podman.sock or tcp://host:2376.",
  });
}
