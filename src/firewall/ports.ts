import { parseHostPort } from "../config/values.ts";
import type { Ports } from "./settings.ts";

/** Where the packages' socket unit listens. */
const defaultPort = 18_000;

/** For a host without a configuration that can be read. */
export const defaultPorts: Ports = { proxy: defaultPort };

/**
 * The ports in the text of a config.json that has problems elsewhere: a mistake in an alias must neither move the
 * redirect to another port nor open those that are guarded. Undefined where the text is no JSON object.
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

/** What config.json says about listening; its type has more keys. */
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
    // An address that the operator named says by itself who reaches it.
    metrics: metrics?.host === undefined ? metrics?.port : undefined,
  };
}
