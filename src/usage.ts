/** What `--help` prints: of the program, and of each command. ec2metaproxy(8) says the same at length. */

export type CommandName =
  | "serve"
  | "guard"
  | "check"
  | "status"
  | "explain"
  | "firewall"
  | "version"
  | "help";

const exitCodes = `Exit codes: 0 success, 1 a problem was found, 64 wrong usage, 69 something outside is missing or does not answer,
70 a bug, 78 the configuration must be edited.`;

const config = "  -c, --config FILE        default /etc/ec2metaproxy/config.json";
const json = "      --json               print JSON";
const settings =
  "      --settings DIRECTORY directory of firewall.conf and firewall.d, default /etc/ec2metaproxy";

/** One line of the program's usage for each command. */
const summaries: Readonly<Record<CommandName, readonly [synopsis: string, summary: string]>> = {
  serve: ["[serve] [-c FILE] [--guard SOCKET]", "run the proxy"],
  guard: ["guard [-c FILE]", "run the guard, which keeps containers apart for the proxy"],
  check: ["check [--config-only|--probe] [--json]", "check the configuration and this host"],
  status: ["status [--json] [--watch]", "show what the running proxy serves, and what is wrong"],
  explain: ["explain CONTAINER|ADDRESS [--json]", "show which role a container gets, and why"],
  firewall: [
    "firewall apply|remove|status|render",
    "manage the rules that redirect containers' requests to the proxy",
  ],
  version: ["version", "print the version"],
  help: ["help [COMMAND]", "print this, or what a command does"],
};

export const usage = `Gives every Docker container on an EC2 host its own IAM role.

Usage:
${Object.values(summaries)
  .map(([synopsis, summary]) => `  ec2metaproxy ${synopsis.padEnd(39)} ${summary}`)
  .join("\n")}

\`ec2metaproxy COMMAND --help\` describes a command and its options.

${exitCodes}
See ec2metaproxy(8), ec2metaproxy.json(5), ec2metaproxy-firewall.conf(5) and ec2metaproxy-refusals(7).`;

const details: Readonly<Record<CommandName, string>> = {
  serve: `Runs the proxy until it is stopped. It listens on the socket that systemd passes to it, or else on \`listen\` of the
configuration. SIGHUP makes it read the configuration again; a broken file is refused, and the old one stays in force.

Options:
${config}
      --guard SOCKET       learn of the containers from the guard's socket instead of the engines

It also takes the flags of earlier programs of this kind; they override the file:
  -s, --server ADDRESS     listen
  -r, --default-iam-role ARN
                           the role of containers that request none
      --default-iam-policy JSON
                           defaultPolicy
      --metadata-url URL   metadataEndpoint (also --meta-data-api)
      --docker-endpoint HOST
                           dockerHost
      --disable-upstream   passthrough.enabled = false
      --verbose            verbose`,
  guard: `Runs the guard until it is stopped. It follows the container engines, keeps each container's addresses to its own
bridge ports, restores firewall rules that somebody has removed, and publishes the containers for serve --guard.

Options:
${config}
${settings}`,
  check: `Prints what is wrong with the configuration, the environment and this host, and what to do about it. The
environment is that of ec2metaproxy.service, where it is installed, and not this shell's. Run it as root.
Exits with 1 if something is wrong, 78 if it is the configuration or the environment.

Options:
${config}
      --config-only        validate the file and the service's variables, and do nothing else
      --probe              also send a request from each bridge, as a container would; needs root
      --guard SOCKET       the guard's socket, default that of the running proxy or the packages
${json}`,
  status: `Prints what the running proxy serves, and what is wrong: each problem with its cause and what to do, and each
container with its role, its credentials, its requests, and whether it is locked.
Exits with 1 if something is wrong. Needs root, or the service's user.

Options:
${json}
      --watch              print it again every two seconds, until interrupted; with --json one line each time`,
  explain: `Prints who a container is, which role it asks for and gets now, and why: as the running proxy says, or else by the
configuration and the engine. CONTAINER is a name, an id, or the beginning of one.
Exits with 1 if it does not get its role.

Options:
${config}
      --guard SOCKET       the guard's socket, default that of the running proxy or the packages
${json}`,
  firewall: `apply   installs the rules, in one transaction; does nothing if they are in place
remove  removes the rules: containers can then reach the instance's own role
status  lists missing rules; exits with 1 if there are any, or if a probe finds that containers do not reach the proxy
render  prints the rules; needs no root

Options:
${config}
${settings}
      --backend NAME       nftables or iptables; overrides BACKEND of the settings
      --probe              status: also send a request from each bridge, as a container would; needs root
${json}`,
  version: "Prints the version of this program, its commit, and the version of Node in it.",
  help: "Prints the usage of the program, or of a command.",
};

export const commandNames = Object.keys(details) as readonly CommandName[]; // its own keys

/** What `ec2metaproxy COMMAND --help` prints. */
export function usageOf(command: CommandName): string {
  const [synopsis, summary] = summaries[command];
  return `Usage: ec2metaproxy ${synopsis}\n\n${summary.charAt(0).toUpperCase()}${summary.slice(1)}.\n\n${details[command]}

${exitCodes}`;
}
