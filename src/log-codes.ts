/**
 * The code of each log line of level warn and above, as its field `code`. A code keeps its name: alerts and
 * runbooks rely on it. ec2metaproxy-refusals(7) lists them; refusals of requests have codes of their own.
 */
type Entry = {
  readonly level: "warn" | "error";
  /** What the line says. */
  readonly why: string;
  readonly fix: string;
};

const stsCodes = {
  "sts-throttled": {
    level: "warn",
    why: "STS throttles the account, and all calls slow down until it stops",
    fix: "nothing for a moment's throttling; otherwise lower sts.callsPerSecond, or set sts.startSpreadSeconds on fleets",
  },
  "sts-outage": {
    level: "warn",
    why: "none of several roles could be assumed: cached credentials are served until they expire, and STS is probed",
    fix: "see cause and cure in the line",
  },
  "sts-unusable": {
    level: "warn",
    why: "calling STS as this host failed after the start, so no role can be assumed; the call is repeated",
    fix: "see cause and cure in the line",
  },
  "metadata-unusable": {
    level: "warn",
    why: "the instance metadata service did not name the instance; {instanceId} in templates stays empty",
    fix: "see the error in the line, and ec2metaproxy check",
  },
  "clock-off": {
    level: "warn",
    why: "this host's clock differs from that of STS by more than five minutes; calls to STS are corrected, those of containers to AWS may fail",
    fix: "set the clock: timedatectl set-ntp true",
  },
  "role-refused": {
    level: "warn",
    why: "IAM or STS refused a role",
    fix: "see cause and cure in the line; stsCode and reason are STS's own words",
  },
  "role-failing": {
    level: "warn",
    why: "a role could not be assumed at least twice, for a temporary reason; it is tried again",
    fix: "see cause and cure in the line",
  },
  "role-duration": {
    level: "warn",
    why: "STS does not allow the durationSeconds of a role; its sessions have one hour",
    fix: "see cause and cure in the line",
  },
  "credentials-expired": {
    level: "error",
    why: "the credentials of a role have expired and could not be renewed: its containers get 503",
    fix: "see cause and cure in the line",
  },
} satisfies Record<string, Entry>;

const containerCodes = {
  "engine-lost": {
    level: "warn",
    why: "an engine cannot be followed: its known containers are served, new ones are not",
    fix: "see the error in the line: does the engine run, and may the process open its socket?",
  },
  "engine-late": {
    level: "warn",
    why: "an engine does not answer the guard that has just started; the port lock of the previous guard stays",
    fix: "see why the engine hangs",
  },
  "engine-untested": {
    level: "warn",
    why: "the engine's API version is outside the tested range",
    fix: "nothing if all works",
  },
  "networks-unreadable": {
    level: "warn",
    why: "the engine does not list its networks, so bridges with names of their own are covered only by INTERFACES",
    fix: "see the error in the line",
  },
  "container-unreadable": {
    level: "warn",
    why: "the engine does not describe a container, so it is not known and not served",
    fix: "see the error in the line, and the engine's own log",
  },
  "addresses-shared": {
    level: "warn",
    why: "two running containers have one address; neither is served there",
    fix: "give one of them another address, or stop it",
  },
  "labels-too-large": {
    level: "error",
    why: "a container's labels are too large to be published, so it is unknown to the proxy",
    fix: "remove labels; together they must stay below a megabyte",
  },
  "strangers-suppressed": {
    level: "warn",
    why: "more unknown addresses were refused than are logged one by one; refusals is their number",
    fix: "find out which machine makes up addresses: the lines before this one name some",
  },
} satisfies Record<string, Entry>;

const guardCodes = {
  "guard-lost": {
    level: "warn",
    why: "the guard is not connected: known containers are served, new ones get 503",
    fix: "systemctl status ec2metaproxy-guard",
  },
  "guard-socket-removed": {
    level: "warn",
    why: "somebody removed the guard's socket; it was made again",
    fix: "find out what cleans up /run",
  },
  "guard-socket-missing": {
    level: "error",
    why: "somebody removed the guard's socket, and it cannot be made again",
    fix: "systemctl restart ec2metaproxy-guard",
  },
  "lock-incomplete": {
    level: "error",
    why: "the port lock is not complete: containers that are not locked are not protected from their neighbours",
    fix: "see the error in the line; ec2metaproxy status names the containers",
  },
  "monitor-ended": {
    level: "warn",
    why: "nft monitor or ip monitor ended; it will be restarted",
    fix: "nothing if it happens once",
  },
  "addresses-unreadable": {
    level: "warn",
    why: "the addresses of this host cannot be read",
    fix: "see the error in the line; is ip installed?",
  },
  "bridges-unreadable": {
    level: "warn",
    why: "the file with the names of bridges cannot be used; the engines are asked",
    fix: "remove the file that the line names, and restart the guard",
  },
  "bridges-not-kept": {
    level: "error",
    why: "the names of bridges cannot be written, so they are not covered before the engine starts at the next boot",
    fix: "see the error in the line: is the disk full?",
  },
  "bridge-not-covered": {
    level: "error",
    why: "a bridge that an engine has named could not be added to the rules; it is tried again",
    fix: "see the error in the line; ec2metaproxy firewall status",
  },
} satisfies Record<string, Entry>;

const firewallCodes = {
  "rules-restored": {
    level: "warn",
    why: "firewall rules were missing or changed, and were restored",
    fix: "find out who changes them: gone or summary in the line says what was missing",
  },
  "rules-unchecked": {
    level: "error",
    why: "the firewall rules could not be checked or restored; it is tried again",
    fix: "see the error in the line; ec2metaproxy firewall apply",
  },
  "rules-not-undone": {
    level: "error",
    why: "applying the rules failed half-way, and the previous ones could not be restored",
    fix: "ec2metaproxy firewall apply",
  },
  "rules-not-in-force": {
    level: "error",
    why: "the guard finds firewall rules missing or changed, and has not restored them: containers may reach the instance's own role",
    fix: "see reason in the line; systemctl restart ec2metaproxy-firewall",
  },
  "rules-missing-closed": {
    level: "warn",
    why: "no firewall rules are in force; routing rules keep containers from the metadata service",
    fix: "see the error before it; then ec2metaproxy firewall apply",
  },
  "rules-missing-open": {
    level: "error",
    why: "no firewall rules are in force: containers may reach the instance's own role",
    fix: "stop the containers, or run ec2metaproxy firewall apply",
  },
  "layer2-missing": {
    level: "warn",
    why: "this host cannot have the rules for layer 2",
    fix: "docs/firewall.md lists what a host needs for them",
  },
  "ports-assumed": {
    level: "warn",
    why: "config.json cannot be read or has problems, so the rules use the ports that it names, or the default",
    fix: "ec2metaproxy check --config-only",
  },
} satisfies Record<string, Entry>;

const processCodes = {
  unhealthy: {
    level: "error",
    why: "a part of the health that ec2metaproxy status shows is failing; part names it, and a line says when it is well again",
    fix: "see cure in the line, and ec2metaproxy status",
  },
  "not-served": {
    level: "error",
    why: "a container that should have a role does not get it",
    fix: "see cure in the line, and ec2metaproxy explain CONTAINER",
  },
  "reload-refused": {
    level: "error",
    why: "the configuration has problems, and the previous one stays in force",
    fix: "correct what the lines after it name, then systemctl reload ec2metaproxy",
  },
  "configuration-problem": {
    level: "error",
    why: "one problem of the configuration, with its place and hint",
    fix: "as the line says",
  },
  "restart-needed": {
    level: "warn",
    why: "a key has changed that takes effect only at a restart",
    fix: "systemctl restart the unit that the line names, or ec2metaproxy",
  },
  "variable-ignored": {
    level: "warn",
    why: "a variable of other AWS or container tools is set, and nothing here reads it",
    fix: "as cure in the line says, or remove the variable",
  },
  bug: {
    level: "error",
    why: "answering a request failed in a way that was not foreseen",
    fix: "report it, with the line",
  },
} satisfies Record<string, Entry>;

/** By section, for the manual page. */
export const logCodeSections = { stsCodes, containerCodes, guardCodes, firewallCodes, processCodes };

export const logCodes = {
  ...stsCodes,
  ...containerCodes,
  ...guardCodes,
  ...firewallCodes,
  ...processCodes,
};

export type LogCode = keyof typeof logCodes;
