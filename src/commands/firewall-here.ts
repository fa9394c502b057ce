import { readFile } from "node:fs/promises";
import type { Command } from "../cli.ts";
import type { ExitCode } from "../errors.ts";
import { defaultPorts, portsInText, portsOf } from "../firewall/ports.ts";
import type { Ports } from "../firewall/settings.ts";
import type { Log } from "../log.ts";
import { configuration } from "./configuration.ts";
import { firewall } from "./firewall.ts";

const defaultSettingsDirectory = "/etc/ec2metaproxy";

/** `firewall` with this host's settings; the ports are those that config.json names. */
export async function firewallHere(
  options: Extract<Command, { command: "firewall" }>,
  print: (text: string) => void,
  log: Log,
): Promise<ExitCode> {
  const file = configuration(options.configPath);
  const ports = await portsHere(file, options.action, log);
  return firewall(
    {
      action: options.action,
      configPath: file.path,
      settingsDirectory: options.settingsDirectory ?? defaultSettingsDirectory,
      json: options.json,
      ...(options.backend !== undefined && { backend: options.backend }),
    },
    ports,
    print,
    log,
  );
}

/**
 * The rules must stand even where config.json is broken: the redirect then leads to a proxy that does not run, which is
 * a refused connection; without the rules it would lead to the instance's own role.
 */
async function portsHere(file: ReturnType<typeof configuration>, action: string, log: Log): Promise<Ports> {
  if (action === "remove") return defaultPorts;
  try {
    return portsOf(await file.read());
  } catch (error) {
    const ports = portsInText(await readFile(file.path, "utf8").catch(() => ""));
    if (ports !== undefined) {
      log.warn(
        { err: error, ...ports },
        `${file.path} has problems; the rules follow the ports that it names`,
      );
      return ports;
    }
    log.warn(
      { err: error, port: defaultPorts.proxy },
      `reading ${file.path} failed; PROXY_PORT defaults to ${defaultPorts.proxy} until it is mended`,
    );
    return defaultPorts;
  }
}
