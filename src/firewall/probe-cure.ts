import type { Eaten } from "./probe-trace.ts";

/** The bridge and port that a packet of the probe went to. */
export type Aim = {
  readonly bridge: string;
  readonly family: "ipv4" | "ipv6";
  readonly proxyPort: number;
  /** The zone of the bridge, if firewalld runs. */
  readonly zone: string | undefined;
  /** The program of iptables whose rules these are. */
  readonly iptables: string;
};

/** What the operator runs so that the next packet passes; pure. */
export function cure(eaten: Eaten, aim: Aim): string {
  const { bridge, proxyPort, zone } = aim;
  const { table, base, packet } = eaten;
  const [family = "", name = ""] = table.split(" ");
  if (name === "ec2metaproxy" || name === "ec2metaproxy_lock")
    return "That is a rule of ec2metaproxy: `ec2metaproxy firewall apply`, and see `ec2metaproxy firewall status`.";
  if (name === "firewalld" || eaten.chains.some((chain) => /^(?:IN|filter_IN)_/.test(chain)))
    return run(
      `firewall-cmd --permanent --zone=${zone ?? "ZONE"} --add-port=${proxyPort}/tcp && firewall-cmd --reload`,
    );
  if (eaten.chains.some((chain) => /^ufw6?-/.test(chain)))
    return run(`ufw allow in on ${bridge} to any port ${packet.port ?? proxyPort} proto tcp`);
  const isAnswer = packet.inInterface === undefined;
  if (/^ip6? (?:filter|raw|mangle|security)$/.test(table) && base === base.toUpperCase())
    return run(iptablesLine(eaten, aim, name, isAnswer));
  const match = isAnswer
    ? `oifname "${bridge}" tcp sport ${packet.sourcePort ?? proxyPort}`
    : `${family === "bridge" ? "" : `iifname "${bridge}" `}tcp dport ${packet.port ?? proxyPort}`;
  return run(`nft 'insert rule ${table} ${base} ${match} accept'`);
}

function run(line: string): string {
  return `Run: ${line}  (and keep it where that rule comes from, so that it survives a restart)`;
}

function iptablesLine({ base, packet }: Eaten, aim: Aim, name: string, isAnswer: boolean): string {
  const program = `${aim.iptables}${name === "filter" ? "" : ` -t ${name}`}`;
  if (isAnswer)
    return `${program} -I ${base} -o ${aim.bridge} -p tcp --sport ${packet.sourcePort ?? aim.proxyPort} -j ACCEPT`;
  const port = packet.port ?? aim.proxyPort;
  // Before the redirection the packet is still on its way to the metadata address.
  const to = port === aim.proxyPort ? "" : ` -d ${packet.destination}`;
  return `${program} -I ${base} -i ${aim.bridge}${to} -p tcp --dport ${port} -j ACCEPT`;
}
