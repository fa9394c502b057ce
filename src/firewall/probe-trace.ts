import { setTimeout as delay } from "node:timers/promises";
import type { Follow } from "./command.ts";
import type { ProbeHost } from "./probe-namespace.ts";

/** The rule, or the policy of a chain, that dropped or rejected a packet. */
export type Eaten = {
  /** nft's family and name of the table: `ip filter`. */
  readonly table: string;
  readonly chain: string;
  /** The base chain of that table, at which the packet came in: `INPUT`. */
  readonly base: string;
  /** `rule tcp dport 18000 drop`, or `policy drop`. */
  readonly by: string;
  /** Every chain of the table that the packet passed. */
  readonly chains: readonly string[];
  readonly packet: Packet;
};

/** What the packet looked like there. */
export type Packet = {
  readonly destination: string;
  readonly sourcePort: number | undefined;
  readonly port: number | undefined;
  readonly inInterface: string | undefined;
};

export type Traced =
  | { readonly kind: "eaten"; readonly by: Eaten }
  /** No rule of nftables dropped it. `chains` are those it passed, as `ip filter INPUT`. */
  | { readonly kind: "passed"; readonly chains: readonly string[]; readonly redirected: boolean }
  | { readonly kind: "not seen" }
  /** This host cannot trace. */
  | { readonly kind: "untraced"; readonly why: string };

/** From the start of `nft monitor` until it has subscribed. */
const subscribedMs = 600;
/** How long its last lines may take. */
const lastLinesMs = 300;

/**
 * Marks the probe's packets and the answers to them, in a table of their own that the shell deletes when its
 * standard input ends, also when we are killed. Frames too, where the kernel has nftables' bridge family.
 */
function tracing(name: string, { mac, address }: Traceable): string {
  const keyword = address.includes(":") ? "ip6" : "ip";
  const rules = `table inet ${name} {
  chain asked {
    type filter hook prerouting priority -450; policy accept;
    ether saddr ${mac} meta l4proto tcp meta nftrace set 1
  }
  chain answered {
    type filter hook output priority -450; policy accept;
    ${keyword} daddr ${address} meta l4proto tcp meta nftrace set 1
  }
}`;
  const frames = `table bridge ${name} {
  chain asked {
    type filter hook prerouting priority -450; policy accept;
    ether saddr ${mac} meta l4proto tcp meta nftrace set 1
  }
}`;
  return `printf '%s\\n' '${frames}' | nft -f - 2>/dev/null
printf '%s\\n' '${rules}' | nft -f - || exit 1
echo ready
cat
nft delete table inet ${name}
nft delete table bridge ${name} 2>/dev/null
exit 0`;
}

type Traceable = { readonly mac: string; readonly address: string; readonly metadata: string };

/** Lets the probe ask once more, and says which rule dropped its packets. */
export async function trace(
  { hold, follow }: Pick<ProbeHost, "hold"> & { readonly follow: Follow },
  probe: Traceable,
  suffix: string,
  ask: () => Promise<unknown>,
): Promise<Traced> {
  const name = `ec2metaproxy_probe_${suffix}`;
  const holder = await hold("sh", ["-c", tracing(name, probe)]);
  if (!holder.ok) return { kind: "untraced", why: holder.why };
  const lines: string[] = [];
  const stopping = new AbortController();
  const monitor = follow("nft", ["monitor", "trace"], (line) => lines.push(line), stopping.signal);
  try {
    await delay(subscribedMs);
    await ask();
    await delay(lastLinesMs);
  } finally {
    stopping.abort();
    await monitor;
    await holder.held.release();
  }
  return readTrace(lines, name, probe);
}

const packetLine =
  /^trace id (\S+) (\S+) (\S+) (\S+) packet: (?:iif "([^"]*)" )?.*?\bip6? saddr (\S+) ip6? daddr (\S+) .*?\btcp sport (\d+) tcp dport (\d+)/;
const stepLine = /^trace id (\S+) (\S+ \S+) (\S+) (.*?)\s*$/;

/** Reads the output of `nft monitor trace`; pure. Packets of others, and our own table, are left out. */
export function readTrace(
  lines: readonly string[],
  ownTable: string,
  { address, metadata }: Traceable,
): Traced {
  // A packet has a new id after its addresses have changed, and each table begins with a `packet:` line.
  const ours = new Set<string>();
  const at = new Map<string, { readonly base: string; readonly packet: Packet; chains: string[] }>();
  const passed = new Set<string>();
  let redirected = false;
  let seen = false;
  for (const line of lines) {
    const packet = packetLine.exec(line);
    if (packet !== null) {
      const [, id = "", family = "", name = "", base = "", inInterface, source, destination = ""] = packet;
      if (source !== address && destination !== address) continue;
      ours.add(id);
      seen = true;
      if (source === address && destination !== metadata) redirected = true;
      const [sourcePort, port] = [Number(packet[8]), Number(packet[9])];
      at.set(`${id} ${family} ${name}`, {
        base,
        packet: { destination, sourcePort, port, inInterface },
        chains: [base],
      });
      continue;
    }
    const [, id = "", table = "", chain = "", text = ""] = stepLine.exec(line) ?? [];
    const entered = at.get(`${id} ${table}`);
    if (!ours.has(id) || entered === undefined || table.endsWith(` ${ownTable}`)) continue;
    passed.add(`${table} ${chain}`);
    entered.chains.push(chain);
    const by = dropIn(text);
    if (by !== undefined) {
      const { base, chains, packet: where } = entered;
      return { kind: "eaten", by: { table, chain, base, by, chains: [...new Set(chains)], packet: where } };
    }
  }
  return seen ? { kind: "passed", chains: [...passed], redirected } : { kind: "not seen" };
}

function dropIn(text: string): string | undefined {
  if (/^policy drop\b/.test(text)) return "its policy, drop";
  const [, rule] = /^(?:rule|unknown rule) (.*) \(verdict drop\)$/.exec(text) ?? [];
  if (rule === undefined) return undefined;
  return `its rule ${rule.replace(/ packets \d+ bytes \d+/, "")}`;
}
