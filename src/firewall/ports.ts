import { parseHostPort } from "../config/values.ts";
import type { Ports, Settings } from "./settings.ts";

/** The port of the packaged socket unit. */
const defaultPort = 18_000;

/** For a host whose configuration is missing or cannot be read. */
export const defaultPorts: Ports = { proxy: defaultPort };

/**
 * The ports in a config.json that has problems elsewhere: a mistake in an alias must neither move the
 * redirect to another port nor open the guarded ports. Undefined if the text is not a JSON object.
 */
export function portsInText(text: string): Ports | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text.replace(/^\uFEFF/, ""));
  } catch {
    return undefined;
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) return undefined;
  const credentials = member(parsed, "containerCredentials");
  return portsOf({
    listen: listenText(member(parsed, "listen")),
    containerCredentials:
      typeof credentials === "object" && credentials !== null
        ? { listen: listenText(member(credentials, "listen")) }
        : undefined,
    metricsListen: listenText(member(parsed, "metricsListen")),
  });
}

function member(of: object, key: string): unknown {
  return Object.getOwnPropertyDescriptor(of, key)?.value;
}

function listenText(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

/** The part of the configuration that names ports. */
type Listening = {
  readonly listen?: string | undefined;
  readonly containerCredentials?: { readonly listen?: string | undefined } | undefined;
  readonly metricsListen?: string | undefined;
};

export function portsOf({ listen, containerCredentials, metricsListen }: Listening): Ports {
  const metrics = parseHostPort(metricsListen ?? "");
  return {
    proxy: parseHostPort(listen ?? "")?.port ?? defaultPort,
    credentials: parseHostPort(containerCredentials?.listen ?? "")?.port,
    // If the operator named an address, that decides who can reach it.
    metrics: metrics?.host === undefined ? metrics?.port : undefined,
  };
}

/** Warnings about services that share a port: the firewall rules of only one of them can apply. */
export function sharedPorts(settings: Settings): readonly string[] {
  const { proxyPort, credentialsPort, metricsPort } = settings;
  const shared = [
    { key: "containerCredentials.listen", port: credentialsPort, others: [proxyPort] },
    { key: "metricsListen", port: metricsPort, others: [proxyPort, credentialsPort] },
  ].filter(({ port, others }) => port !== undefined && others.includes(port));
  return shared.map(
    ({ key, port }) =>
      `${key} has port ${port}, which another service uses, so it cannot be reached there. Give it its own port`,
  );
}
