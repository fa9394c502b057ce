import type { Command } from "../cli.ts";
import { parseHostPort } from "../config/values.ts";
import type { ExitCode } from "../errors.ts";
import type { Log } from "../log.ts";
import { configuration } from "./configuration.ts";
import { firewall } from "./firewall.ts";

const defaultSettingsDirectory = "/etc/ec2metaproxy";

/** `firewall` with this host's settings; PROXY_PORT's default is the port that config.json's `listen` names. */
export async function firewallHere(
  options: Extract<Command, { command: "firewall" }>,
  print: (text: string) => void,
  log: Log,
): Promise<ExitCode> {
  const file = configuration(options.configPath);
  const port = await proxyPort(file, options.action, log);
  return firewall(
    {
      action: options.action,
      configPath: file.path,
      settingsDirectory: options.settingsDirectory ?? defaultSettingsDirectory,
      json: options.json,
      ...(options.backend !== undefined && { backend: options.backend }),
    },
    port,
    print,
    log,
  );
}

const defaultPort = 18_000;

/**
 * The rules must stand even where config.json is broken: the redirect then leads to a proxy that does not run, which is
 * a refused connection; without the rules it would lead to the instance's own role.
 */
async function proxyPort(file: ReturnType<typeof configuration>, action: string, log: Log): Promise<number> {
  if (action === "remove") return defaultPort;
  try {
    return parseHostPort((await file.read()).listen)?.port ?? defaultPort;
  } catch (error) {
    log.warn(
      { err: error, port: defaultPort },
      `reading ${file.path} failed; PROXY_PORT defaults to ${defaultPort} until it is mended`,
    );
    return defaultPort;
  }
}
