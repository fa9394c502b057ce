import type { Environment } from "../config/load.ts";
import type { Config } from "../config/schema.ts";
import { assumeRoleErrorIn } from "../credentials/assume-role.ts";
import type { EngineState } from "../engine/connection.ts";
import { engineTrouble } from "../engine/trouble.ts";
import { type ExitCode, exitCodes, explain, OperatorError } from "../errors.ts";
import type { Log } from "../log.ts";
import { decide, rolePolicy } from "../roles/grant.ts";
import { likelyMistakes } from "../roles/mistakes.ts";
import { jsonText, printable } from "../text.ts";
import { conflictFindings, seenBy } from "./check-containers.ts";
import { hostClocks } from "./clocks.ts";
import { configuration } from "./configuration.ts";
import { bothOf } from "./environment.ts";
import type { Finding } from "./finding.ts";
import { guardFindings } from "./guard-findings.ts";
import { viewGuard } from "./guard-view.ts";
import { linkNetworks, takeInventory } from "./inventory.ts";
import { proxyFindings } from "./proxy-findings.ts";

export type CheckOptions = {
  readonly configPath: string | undefined;
  readonly configOnly: boolean;
  /** Path of the guard's socket; by default that of the running proxy, or else the packages'. */
  readonly guard?: string;
  readonly json: boolean;
  /** Also sends a request from each bridge. */
  readonly probe?: boolean;
};

/**
 * Checks what an instance needs besides its configuration. Passed in, so that `check` depends on no firewall
 * and no AWS.
 */
export type HostChecks = {
  metadata(config: Config): Promise<string>;
  /** Rejects where the host has no credentials of its own. */
  sts(config: Config): Promise<string>;
  /**
   * Assumes a role as the proxy would, and discards the session. With a hint where it can be assumed, but not
   * as configured. Rejects where STS or IAM refuses.
   */
  role(config: Config, alias: string): Promise<string | { readonly text: string; readonly hint: string }>;
  /** One for the rules, and one for each thing of the host that keeps containers from the proxy. */
  firewall(config: Config): Promise<readonly Judged[]>;
  /** The units, their port and their files. */
  services(config: Config, configPath: string): Promise<readonly Finding[]>;
  /** Sends a request from each bridge, as a container would. */
  probe(config: Config): Promise<readonly Judged[]>;
};

type Judged = Omit<Finding, "subject">;

/**
 * Prints what is wrong with this host: exit code 1 if anything is.
 * @param usableEnvironment rejects with an OperatorError if it is not
 * @throws OperatorError 78 with every problem of the configuration and the environment
 */
export async function check(
  options: CheckOptions,
  print: (text: string) => void,
  log: Log,
  hostChecks: (environment: Environment) => HostChecks,
  usableEnvironment: Promise<Environment>,
): Promise<ExitCode> {
  const file = configuration(options.configPath);
  const [config, environment] = await bothOf(file.read(), usableEnvironment);
  const findings: Finding[] = [configurationFinding(file.path, config)];
  for (const { where, message, hint } of environment.ignored)
    findings.push({ subject: "environment", ok: undefined, text: `${where} ${message}`, hint });
  if (!options.configOnly)
    findings.push(
      ...(await hostFindings(config, file.path, options, environment, log, hostChecks(environment))),
    );
  print(options.json ? jsonText(findings) : findings.map(line).join("\n"));
  return findings.some(({ ok }) => ok === false) ? exitCodes.failed : exitCodes.ok;
}

function configurationFinding(path: string, config: Config): Finding {
  const aliases = Object.keys(config.aliasToARN).length + Object.keys(config.aliases).length;
  const text = `${path} is valid: ${aliases === 1 ? "1 alias" : `${aliases} aliases`}, default ${config.defaultAlias ?? "none"}`;
  const serves = aliases + config.allowRoleArns.length > 0;
  return {
    subject: "configuration",
    ok: true,
    text: serves ? text : `${text}; no role is configured, so no container gets one`,
    hint: serves ? "" : "Define aliases in aliasToARN.",
  };
}

async function hostFindings(
  config: Config,
  configPath: string,
  { guard, probe = false }: CheckOptions,
  environment: Environment,
  log: Log,
  host: HostChecks,
): Promise<Finding[]> {
  // In parallel, so that an engine that hangs delays the operator once, not twice.
  const [inventory, linked, guardView, proxy] = await Promise.all([
    takeInventory(config, environment, log, hostClocks()),
    linkNetworks(config, environment),
    viewGuard(guard, environment),
    proxyFindings(environment, configPath),
  ]);
  const { engines, containers } = seenBy(guardView, inventory);
  const policy = rolePolicy(config);
  const hostNetwork = containers.filter(({ risks }) => risks.includes("host-network"));
  const denied = containers.flatMap((container) => {
    const decision = decide(container, policy, undefined);
    return decision.kind === "denial" ? [{ container, decision }] : [];
  });
  const services = await host.services(config, configPath);
  // A refusal has them in its reason.
  const mistaken = containers
    .filter((container) => !denied.some((each) => each.container === container))
    .flatMap((container) => likelyMistakes(container, policy).map((mistake) => ({ container, mistake })));
  return [
    ...services,
    ...proxy,
    ...engines.map(engineFinding),
    ...guardFindings(config, guardView, containers),
    // One list, made at one time: two of them could show a container and the one that followed it.
    ...conflictFindings(
      guardView.silentBecause === undefined ? guardView.containers : inventory.directory.containers(),
    ),
    ...denied.map(
      ({ container, decision }): Finding => ({
        subject: "containers",
        ok: undefined,
        text: `${container.name} gets no role (${decision.code}): ${decision.reason}`,
        hint: decision.hint,
      }),
    ),
    ...mistaken.map(
      ({ container, mistake }): Finding => ({
        subject: "containers",
        ok: undefined,
        text: `${container.name}: ${mistake}`,
        hint: `\`ec2metaproxy explain ${container.name}\` shows which role it gets instead.`,
      }),
    ),
    ...hostNetwork.map(
      ({ name }): Finding => ({
        subject: "containers",
        ok: undefined,
        text: `${name} runs on the host's network: its requests never reach the proxy, and it can use the instance's own role`,
        hint: "HOST_ACCESS=root in firewall.conf blocks it for containers that do not run as root.",
      }),
    ),
    ...linked.map(
      (network): Finding => ({
        subject: "containers",
        ok: undefined,
        text: `the network ${network} puts its containers beside this host: their requests bypass its firewall, and they can use the instance's own role`,
        hint: "Use a bridge network for containers that must not have it.",
      }),
    ),
    await findingOf(
      "metadata",
      () => host.metadata(config),
      "Is this an EC2 instance with its metadata service enabled?",
    ),
    await findingOf("sts", () => host.sts(config), "Does the instance have an instance profile?"),
    ...(await roleFindings(config, host)),
    ...(await host.firewall(config)).map(
      (judged): Finding => ({ subject: "firewall", ...judged, hint: applicable(judged, services) }),
    ),
    ...(probe ? await host.probe(config) : []).map((judged): Finding => ({ subject: "probe", ...judged })),
  ];
}

function engineFinding(state: EngineState): Finding {
  const { host, connected, engine, containers } = state;
  const subject = "engine";
  const trouble = engineTrouble(state);
  if (trouble === undefined)
    return { subject, ok: true, text: `${host}: ${engine ?? "connected"}, ${containers} running`, hint: "" };
  const hint = connected
    ? "Containers that it does not describe get nothing. Its own log may say why."
    : "Is it running, and may this user open its socket (root, or group docker)?";
  return { subject, ok: false, text: `${host}: ${trouble}`, hint };
}

/** Rules for a port where nobody is would only make things worse. */
function applicable({ ok, hint }: Judged, services: readonly Finding[]): string {
  const isPortWrong = services.some((one) => one.subject === "port" && one.ok === false);
  return ok === false && isPortWrong ? "First set the port right, as said above." : hint;
}

/**
 * Whether the host may assume each role that the configuration names. A new role fails here more often than
 * anywhere.
 */
async function roleFindings(config: Config, host: HostChecks): Promise<Finding[]> {
  const aliases = [...Object.keys(config.aliasToARN), ...Object.keys(config.aliases)];
  const findings: Finding[] = [];
  for (const alias of aliases) {
    findings.push(
      await findingOf(
        "role",
        () => host.role(config, alias),
        "The role's trust policy must name the instance's role, which needs permission for sts:AssumeRole on it.",
      ),
    );
  }
  return findings;
}

async function findingOf(
  subject: Finding["subject"],
  ask: () => Promise<string | { readonly text: string; readonly hint: string }>,
  hint: string,
): Promise<Finding> {
  try {
    const answer = await ask();
    if (typeof answer === "string") return { subject, ok: true, text: answer, hint: "" };
    return { subject, ok: undefined, ...answer };
  } catch (error) {
    const own = error instanceof OperatorError ? error.hint : (assumeRoleErrorIn(error)?.advice ?? "");
    return { subject, ok: false, text: explain(error), hint: own === "" ? hint : own };
  }
}

function line({ subject, ok, text, hint }: Finding): string {
  const mark = ok === undefined ? "warn" : ok ? "ok  " : "FAIL";
  return printable(`${mark}  ${subject.padEnd(14)} ${text}${hint === "" ? "" : `. ${hint}`}`);
}
